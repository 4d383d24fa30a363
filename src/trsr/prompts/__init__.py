"""Words around the data: templates, item lines, token budgets. No model, no network."""
