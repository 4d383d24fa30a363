"""Files from and to other tools: RecTools, RecBole, TREC."""
