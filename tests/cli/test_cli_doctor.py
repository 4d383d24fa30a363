import pytest
from command_line import trsr

ITEMS = "item_id,title\n" + "".join(f"i{place},Item {place}\n" for place in range(40))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "items.csv").write_text(ITEMS)
    return tmp_path


def events(users):
    return "user_id,item_id\n" + "".join(
        f"u{user},i{place}\n" for user in range(users) for place in range(12)
    )


def test_doctor_ends_well_where_prepare_would(folder):
    (folder / "events.csv").write_text(events(60))
    done = trsr("doctor", folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert "60 users take part with these settings." in done.stdout


def test_doctor_tells_what_prepare_refuses_after_the_whole_examination(folder):
    (folder / "events.csv").write_text(events(1))
    done = trsr("doctor", folder)
    assert done.returncode == 2
    assert "12  with at least 11" not in done.stdout
    assert "1  with at least 11 interactions" in done.stdout
    assert done.stdout.rstrip().splitlines()[-1].startswith("No user takes part: `trsr prepare` refuses")


@pytest.mark.parametrize("command", ["doctor", "prepare", "plan"])
def test_every_command_shows_what_was_noticed_before_an_error(folder, command):
    (folder / "events.csv").write_text("user_id,item_id\nu,I1\nu,I2\nu,i1,x\n")
    data = "{format: tables, items: items.csv, events: events.csv, time_column: null}"
    (folder / "my.yaml").write_text(f"data: {data}\nout: {folder}/run\n")
    done = trsr(command, folder / "my.yaml")
    assert done.returncode == 2
    _, _, error = done.stderr.partition("trsr: ")
    head, noticed, *findings = error.splitlines()
    assert "the events name items such as 'I1', 'I2', the item table holds 'i0', 'i1', 'i2'" in head
    assert noticed == "What was noticed before:"
    told = "\n".join(findings)
    assert "events.csv:4: u,i1,x" in told
    assert "2  unknown-item (dropped)" in told
    assert "events.csv:2: item I1 of user u" in told
