"""Settings: from keywords, the environment and, where asked for, a ``.env``; wrong ones are named."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from analysis_kit.errors import ConfigurationError
from analysis_kit.settings import (
    PREFIX,
    Settings,
    cache_dir,
    get_settings,
    load_settings,
    on_change,
    override_settings,
    reset_settings,
)


@pytest.fixture(autouse=True)
def _no_settings_of_the_users(monkeypatch):
    for name in list(os.environ):
        if name.startswith(PREFIX) or name == "OLLAMA_HOST":
            monkeypatch.delenv(name)
    reset_settings()


def test_the_defaults_are_the_source_designs():
    """Names and values as the source design's configuration section has them."""
    settings = get_settings()
    assert (settings.ASYNC_MAX_WORKERS, settings.ASYNC_USE_PROCESSES) == (4, False)
    assert (settings.OLLAMA_POOL_SIZE, settings.OLLAMA_MAX_OVERFLOW) == (4, 2)
    assert (settings.OLLAMA_CONNECTION_TIMEOUT, settings.OLLAMA_RECYCLE_AFTER) == (30.0, 100)
    assert (settings.ENABLE_PERFORMANCE_MONITORING, settings.PERFORMANCE_ALERT_THRESHOLD) == (True, 5.0)
    assert (settings.PERFORMANCE_MAX_METRICS, settings.ENABLE_AUTO_REGISTRATION) == (10_000, True)


@pytest.mark.parametrize("name", Settings.model_fields)
def test_each_setting_is_read_from_its_variable(monkeypatch, name):
    """``ANALYSIS_KIT_<NAME>`` gives the value; an empty or blank variable counts as not set."""
    default = getattr(Settings(), name)
    text = {bool: str(not default), int: "7", float: "7.5", str: "text"}[type(default)]
    monkeypatch.setenv(PREFIX + name, text)
    assert str(getattr(load_settings(), name)) == text
    for blank in ("", " \t"):
        monkeypatch.setenv(PREFIX + name, blank)
        assert getattr(load_settings(), name) == default


def test_which_host_wins(monkeypatch):
    """A keyword wins over the kit's own variable, and that over the one shared with Ollama."""
    monkeypatch.setenv("OLLAMA_HOST", "shared")
    assert load_settings().OLLAMA_HOST == "shared"
    monkeypatch.setenv(f"{PREFIX}OLLAMA_HOST", "own")
    assert load_settings().OLLAMA_HOST == "own"
    assert Settings(OLLAMA_HOST="keyword").OLLAMA_HOST == "keyword"
    with override_settings(ASYNC_MAX_WORKERS=2) as settings:
        assert settings.OLLAMA_HOST == "own"
    monkeypatch.setenv(f"{PREFIX}OLLAMA_HOST", " ")
    assert load_settings().OLLAMA_HOST == "shared"
    assert get_settings().OLLAMA_HOST == "shared"


@pytest.mark.parametrize(
    ("name", "text", "allowed"),
    [
        ("ASYNC_MAX_WORKERS", "0", "a whole number of at least 1"),
        ("ASYNC_MAX_WORKERS", "four", "a whole number of at least 1"),
        ("ASYNC_MAX_WORKERS", "2.5", "a whole number of at least 1"),
        ("ASYNC_USE_PROCESSES", "maybe", "true or false"),
        ("OLLAMA_MAX_OVERFLOW", "-1", "a whole number of at least 0"),
        ("OLLAMA_CONNECTION_TIMEOUT", "nan", "a number above 0"),
        ("OLLAMA_CONNECTION_TIMEOUT", "inf", "a number above 0"),
        ("PERFORMANCE_ALERT_THRESHOLD", "0", "a number above 0"),
    ],
)
def test_a_wrong_value_names_variable_value_and_what_is_allowed(monkeypatch, name, text, allowed):
    """From the environment the variable is named, from a keyword the keyword."""
    monkeypatch.setenv(PREFIX + name, text)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert f"{PREFIX}{name}={text!r}: allowed is {allowed}" in str(caught.value)
    monkeypatch.delenv(PREFIX + name)
    with pytest.raises(ConfigurationError, match=f"cannot be used: {name}='{text}': allowed is {allowed}"):
        Settings(**{name: text})


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("ASYNC_USE_PROCESSES", " TRUE ", True),
        ("ASYNC_USE_PROCESSES", "yes", True),
        ("ENABLE_PERFORMANCE_MONITORING", "off", False),
        ("ASYNC_MAX_WORKERS", " 6 ", 6),
        ("ASYNC_MAX_WORKERS", "6.0", 6),
        ("OLLAMA_CONNECTION_TIMEOUT", "1e1 ", 10.0),
        ("OLLAMA_MODEL", " llama3.2\n", "llama3.2"),
        ("CACHE_URL", "  ", ""),
    ],
)
def test_a_value_may_be_written_in_many_ways(monkeypatch, name, text, value):
    """Spaces around a value, any case, and the usual words for true and false are read."""
    monkeypatch.setenv(PREFIX + name, text)
    assert getattr(load_settings(), name) == value


@pytest.mark.parametrize("name", ["ASYNC_MAX_WORKERS", "OLLAMA_CONNECTION_TIMEOUT"])
def test_true_is_no_number(name):
    """A truth value for a number is a slip, and not 1."""
    with pytest.raises(ConfigurationError, match=f"{name}=True: allowed is a"):
        Settings(**{name: True})


def test_several_wrong_values_are_all_named():
    """One error names them all."""
    with pytest.raises(
        ConfigurationError, match=r"2 setting.*POOL_SIZE.*MAX_WORKERS|2 setting.*MAX_WORKERS.*POOL_SIZE"
    ):
        load_settings(OLLAMA_POOL_SIZE=0, ASYNC_MAX_WORKERS=None)


def test_an_unknown_name_is_refused_with_the_nearest(monkeypatch):
    """A slip in a keyword or in a variable is an error that says which name was meant."""
    with pytest.raises(ConfigurationError, match="did you mean ASYNC_MAX_WORKERS"):
        Settings(ASYNC_MAX_WORKER=3)
    with pytest.raises(ConfigurationError, match="did you mean ASYNC_MAX_WORKERS"):
        Settings(async_max_workers=3)
    with pytest.raises(
        ConfigurationError, match=f"{PREFIX}ASYNC_MAX_WORKERS is no setting.*did you mean ASYNC"
    ):
        Settings(**{f"{PREFIX}ASYNC_MAX_WORKERS": 3})
    with pytest.raises(ConfigurationError, match="known are: ASYNC_MAX_WORKERS"):
        Settings(XYZ=3)
    monkeypatch.setenv(f"{PREFIX.lower()}async_max_workers", "3")
    with pytest.raises(ConfigurationError, match=f"did you mean {PREFIX}ASYNC_MAX_WORKERS"):
        load_settings()
    monkeypatch.delenv(f"{PREFIX.lower()}async_max_workers")
    monkeypatch.setenv(f"{PREFIX}OLLAMA_POLL_SIZE", "3")
    with pytest.raises(ConfigurationError, match=rf"{PREFIX}OLLAMA_POLL_SIZE='3'.*{PREFIX}OLLAMA_POOL_SIZE"):
        load_settings()


def test_a_variable_of_another_kind_is_named_once(monkeypatch, caplog):
    """A variable that resembles none of ours may be another tool's: one INFO record, and no error."""
    monkeypatch.setenv(f"{PREFIX}COLOUR_OF_THE_DAY", "blue")
    with caplog.at_level("INFO", "analysis_kit"):
        load_settings()
        load_settings()
    assert [each.getMessage().split()[0] for each in caplog.records] == [f"{PREFIX}COLOUR_OF_THE_DAY"]


def test_settings_are_frozen():
    """A setting cannot be changed in place."""
    with pytest.raises(ValueError, match="frozen"):
        get_settings().ASYNC_MAX_WORKERS = 3


def test_override_in_tests_and_reset(monkeypatch):
    """Within the block the values hold on every thread, nested too; after it all is as before."""
    with override_settings(ASYNC_MAX_WORKERS=2):
        with override_settings(OLLAMA_POOL_SIZE=9):
            seen = []
            thread = threading.Thread(target=lambda: seen.append(get_settings()))
            thread.start()
            thread.join()
            assert (seen[0].ASYNC_MAX_WORKERS, seen[0].OLLAMA_POOL_SIZE) == (2, 9)
        assert (get_settings().ASYNC_MAX_WORKERS, get_settings().OLLAMA_POOL_SIZE) == (2, 4)
    assert get_settings().ASYNC_MAX_WORKERS == 4
    with pytest.raises(ConfigurationError), override_settings(ASYNC_MAX_WORKERS=0):
        pass
    reset_settings()
    assert get_settings().ASYNC_MAX_WORKERS == 4


def test_a_variable_that_changes_is_read_again(monkeypatch):
    """What a cell sets with ``%env`` holds from the next call on; an override stays until its block ends."""
    assert get_settings() is get_settings()
    monkeypatch.setenv(f"{PREFIX}ASYNC_MAX_WORKERS", "6")
    monkeypatch.setenv(f"{PREFIX}OLLAMA_MODEL", "llama3.2")
    assert (get_settings().ASYNC_MAX_WORKERS, get_settings().OLLAMA_MODEL) == (6, "llama3.2")
    with override_settings(ASYNC_MAX_WORKERS=2):
        monkeypatch.setenv(f"{PREFIX}ASYNC_MAX_WORKERS", "7")
        assert get_settings().ASYNC_MAX_WORKERS == 2
    assert get_settings().ASYNC_MAX_WORKERS == 7
    monkeypatch.setenv(f"{PREFIX}ASYNC_MAX_WORKERS", "none")
    with pytest.raises(ConfigurationError, match="ASYNC_MAX_WORKERS='none'"):
        get_settings()


def test_who_asked_is_told_of_changes(monkeypatch):
    """`on_change` is called when settings are overridden, restored and reset."""
    monkeypatch.setattr("analysis_kit.settings._on_change", [])
    told = []
    on_change(lambda: told.append(get_settings().ASYNC_MAX_WORKERS))
    with override_settings(ASYNC_MAX_WORKERS=2):
        pass
    assert told[:2] == [2, 4]


def test_a_dotenv_is_read_only_when_it_is_named(tmp_path, monkeypatch):
    """A file in the working folder is ignored; named, its lines count after the environment, and others' are passed over."""
    path = tmp_path / ".env"
    path.write_text(
        "ANALYSIS_KIT_ASYNC_MAX_WORKERS=7\nOLLAMA_HOST=dotenv\nSECRET=1\nANALYSIS_KIT_OLLAMA_POOL_SIZE=5\n"
    )
    monkeypatch.chdir(tmp_path)
    assert load_settings().ASYNC_MAX_WORKERS == 4
    monkeypatch.setenv(f"{PREFIX}OLLAMA_POOL_SIZE", "6")
    settings = load_settings(env_file=path)
    assert (settings.ASYNC_MAX_WORKERS, settings.OLLAMA_HOST, settings.OLLAMA_POOL_SIZE) == (7, "dotenv", 6)
    assert load_settings(env_file=path, ASYNC_MAX_WORKERS=8).ASYNC_MAX_WORKERS == 8
    monkeypatch.setenv("OLLAMA_HOST", "shared")
    assert load_settings(env_file=path).OLLAMA_HOST == "shared"
    monkeypatch.delenv("OLLAMA_HOST")
    monkeypatch.setenv(f"{PREFIX}OLLAMA_HOST", "own")
    assert load_settings(env_file=path).OLLAMA_HOST == "own"
    monkeypatch.setenv(f"{PREFIX}OLLAMA_HOST", " ")
    monkeypatch.setenv(f"{PREFIX}OLLAMA_POOL_SIZE", " ")
    path.write_text(path.read_text() + f"{PREFIX}OLLAMA_HOST=' '\n{PREFIX}OLLAMA_MAX_OVERFLOW=' '\n")
    settings = load_settings(env_file=path)
    assert (settings.OLLAMA_HOST, settings.OLLAMA_POOL_SIZE, settings.OLLAMA_MAX_OVERFLOW) == ("dotenv", 5, 2)
    path.write_text("ANALYSIS_KIT_ASYNC_MAX_WORKER=7\n")
    with pytest.raises(ConfigurationError, match="did you mean"):
        load_settings(env_file=path)
    path.write_text("ANALYSIS_KIT_ASYNC_MAX_WORKERS=none\n")
    with pytest.raises(ConfigurationError, match="ASYNC_MAX_WORKERS='none'"):
        load_settings(env_file=path)
    with pytest.raises(ConfigurationError, match="does not exist"):
        load_settings(env_file=tmp_path / "absent")
    path.write_bytes(b"\xff\xfeA\x00")
    with pytest.raises(ConfigurationError, match="UTF-8"):
        load_settings(env_file=path)


def test_where_the_cache_folder_is(monkeypatch, tmp_path):
    """The own variable, then an absolute ``XDG_CACHE_HOME``, then the platform's place; nothing is made."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    assert cache_dir() == tmp_path / ".cache" / "analysis_kit"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache_dir() == tmp_path / "Library" / "Caches" / "analysis_kit"
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert cache_dir() == tmp_path / "local" / "analysis_kit"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_dir() == tmp_path / "local" / "analysis_kit"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_dir() == tmp_path / "xdg" / "analysis_kit"
    with override_settings(CACHE_DIR="~/own"):
        assert cache_dir() == tmp_path / "own"
    assert list(tmp_path.iterdir()) == []


def test_no_other_module_reads_the_kits_variables():
    """The environment's names are in `settings` alone, but for messages."""
    root = Path(__file__).parent.parent / "analysis_kit"
    readers = [
        path.name
        for path in root.rglob("*.py")
        if path.name != "settings.py" and 'environ.get("ANALYSIS_KIT' in path.read_text(encoding="utf-8")
    ]
    assert readers == []


def test_settings_from_a_subprocess_environment(tmp_path):
    """A wrong variable ends a script with one sentence that names it."""
    done = subprocess.run(
        [sys.executable, "-c", "import analysis_kit; analysis_kit.get_settings()"],
        env={"HOME": str(tmp_path), "ANALYSIS_KIT_OLLAMA_POOL_SIZE": "many"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "ANALYSIS_KIT_OLLAMA_POOL_SIZE='many'" in done.stderr.splitlines()[-1]
