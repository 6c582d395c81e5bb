"""The documentation's commands do what it says."""

import re

from tests.conftest import REPOSITORY, command


def test_each_disagreement_of_the_paper_has_a_command_that_shows_it():
    text = (REPOSITORY / "docs/paper.md").read_text()
    named = re.findall(r"python docs/disagreements\.py (\w+)`", text)
    assert len(named) == 8
    done = command("docs/disagreements.py", *named)
    assert done.returncode == 0, done.stderr
    shown = done.stdout
    assert all(f"{name}: " in shown for name in named)
    for evidence in (
        "table 9: of 36 rows 1 come out with Table 2's M = 0.2672 GFLOPs, 36 with M = 0.25479",
        "are between -15.6% and +19.0% off Table 2",
        "tolerance 10.0%: 134 of 134 published proxy architectures come out",
        "table 16: of 54 rows 0 come out with F.4's 19, 54 with 21.985",
        "d_m = 424 by the rules (kept)",
        "144 + 216 + 49 + 258 = 667 (rank, 1, refine, 2); with the 30 of Appendix E 697",
    ):
        assert evidence in shown
    assert command("docs/disagreements.py", "tabl17").returncode == 2
