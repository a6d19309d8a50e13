"""The audit's page: whatever a data set calls its faces stays text."""

from made_faces import looks_of, table_of

from emodet.auditing.findings import Findings
from emodet.auditing.page import audit_page
from emodet.auditing.quality import QualityRules, judge
from emodet.emotions import EMOTIONS


def test_hostile_names_stay_text() -> None:
    hostile = '"><script>alert(1)</script>'
    table = table_of(1, key=[hostile])
    findings = Findings(
        title=hostile,
        table=table,
        class_names=EMOTIONS,
        published={},
        left_out={hostile: 3},
        unreadable=0,
        groups=(),
        quality=judge(looks_of(contrast=[0.0]), QualityRules()),
        sides=None,
        crop_side=48,
        order=(),
        noise=None,
        answered_by="",
        unfound=None,
        corrections=(),
        skipped=(hostile,),
    )
    page = audit_page(findings, None, {"command": hostile}, 8)
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 5
