import pytest

from trsr.experiments.progress import Job, Progress, Work


def test_what_is_left_is_foretold_from_other_seeds_and_from_jobs_of_the_sort() -> None:
    said: list[str] = []
    jobs = [
        Job(Work.BASELINE, "sasrec", 0),
        Job(Work.BASELINE, "sasrec", 1),
        Job(Work.LANGUAGE_MODEL, "tallrec", 0),
        Job(Work.LANGUAGE_MODEL, "recurrent", 0),
        Job(Work.SECOND_STAGE, "tallrec", 0),
    ]
    progress = Progress(jobs, said.append)
    with progress.job(jobs[0]) as complete:
        complete.tell("    train: complete, skipped")
        complete.seconds = 60.0
    assert said == ["[1/5] sasrec, seed 0: complete, skipped"]
    with progress.job(jobs[1]) as job:
        job.tell("    train: fine-tune")
        job.begin()
        assert said[1:] == ["[2/5] sasrec, seed 1 ...", "    train: fine-tune"]
    assert said[-1].endswith("time left not known yet")
    with progress.job(jobs[2]) as complete:
        complete.seconds = 100.0
    for place in (3, 4):
        with progress.job(jobs[place]) as job:
            job.begin()
        assert "left" in said[-1]
    assert said[-1].startswith("[5/5] tallrec, seed 0, order of retrieved items:")
    assert said[-1].endswith("nothing left")


def test_the_time_left_is_a_lower_bound_while_a_sort_was_never_seen() -> None:
    said: list[str] = []
    jobs = [
        Job(Work.LANGUAGE_MODEL, "tallrec", 0),
        Job(Work.LANGUAGE_MODEL, "recurrent", 0),
        Job(Work.LANGUAGE_MODEL, "recurrent", 1),
        Job(Work.SECOND_STAGE, "tallrec", 0),
    ]
    progress = Progress(jobs, said.append)
    with progress.job(jobs[0]) as complete:
        complete.seconds = 119.0
    with progress.job(jobs[1]) as job:
        job.begin()
    # The only other seed took no time here; what orders items was never seen.
    assert "time left not known yet" in said[-1] or "more than" in said[-1]


def test_a_job_that_fails_is_not_done() -> None:
    said: list[str] = []
    job = Job(Work.BASELINE, "ncf", 0)
    progress = Progress([job], said.append)

    def fail() -> None:
        with progress.job(job) as running:
            running.begin()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert said == ["[1/1] ncf, seed 0 ..."]
