"""What the tests of the report share: a call that tries everything, and the page made of it, once."""

from __future__ import annotations

import json

import pytest
from fakes.ollama import FakeOllama

import analysis_kit as ak
from analysis_kit.ollama.pool import OllamaConnectionPool
from analysis_kit.transcripts.model import Speaker, Transcript, Turn

#: Markup that would run, and braces that a template engine would obey.
EVIL = "<script>window.ran=1</script><img src=x onerror=window.ran=2>{{ 7*7 }}{% raw %}{# no #}$\\alpha$</style></title>"
HOSTILE = Transcript(
    f"Evil {EVIL} Corp",
    None,
    "Q1 2026",
    None,
    [
        Turn(
            0,
            f"Remarks {EVIL}",
            f"Ada {EVIL}",
            "executive",
            f"Revenue grew 12% {EVIL} and margins expanded strongly.",
        ),
        Turn(
            1,
            f"Remarks {EVIL}",
            f"Ada {EVIL}",
            "executive",
            "We expect revenue of $10 million to $12 million next year.",
        ),
        Turn(2, "Q&A 1: Bo", "Bo", "analyst", f"Orders fell sharply {EVIL} and you cut guidance, why?"),
    ],
    participants=[Speaker(f"Ada {EVIL}", role="executive"), Speaker("Bo", role="analyst")],
)


def _answer(request):
    if "Orders fell" in json.dumps(request) and "Remarks" not in json.dumps(request):
        return f"no JSON {EVIL}"
    return json.dumps({"label": "positive", "score": 0.5, "confidence": 0.9})


@pytest.fixture(scope="session")
def hostile_run():
    """Return a finished run of the call that tries everything, with a model that once answers no JSON."""
    with FakeOllama(slots=4, models=("smollm2:135m",), answer=_answer) as fake:
        pool = OllamaConnectionPool(4, hosts=fake.url)
        run = ak.analyze(
            [HOSTILE],
            ["tone", "complexity", "numerical", "deception", "sentiment"],
            by=("section", "speaker"),
            hosts=fake.url,
            pool=pool,
            cache="memory:",
            dashboard=False,
        )
        ak.run_async(run)
        pool.shutdown()
    return run


@pytest.fixture(scope="session")
def hostile_page(hostile_run, tmp_path_factory):
    """Return the path of the report of that run."""
    out = tmp_path_factory.mktemp("report") / "report.html"
    return ak.render_report(hostile_run, out, title=f"Evil {EVIL}")
