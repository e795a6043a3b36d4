"""The command as its users meet it."""

from click.testing import CliRunner, Result

from snnprof.cli.main import cli

WORKING = ("coherence", "run", "train")


def call(*arguments: str) -> Result:
    """Run ``snnprof ARGUMENTS``, on the CPU where nothing else is asked for."""
    works = arguments[:1] and arguments[0] in WORKING and "--device" not in str(arguments)
    return CliRunner().invoke(cli, [*arguments, *(["--device=cpu"] if works else [])])


def refused(*arguments: str) -> str:
    """The one line that a mistake gets."""
    result = call(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("Error: ")
    return result.stderr
