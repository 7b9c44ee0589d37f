"""`sightline`: the commands in one table, and how errors end."""

import sys
from typing import Annotated

import typer

import sightline
from sightline.cli import benchmark, bundle, cloud, cloud_image, dataset
from sightline.cli.check import check
from sightline.cli.cloud_endpoints import benchmark as cloud_benchmark
from sightline.cli.cloud_endpoints import delete, deploy, invoke, policy, weights
from sightline.cli.cloud_search import tune as cloud_tune
from sightline.cli.cloud_template import template
from sightline.cli.cloud_transform import transform
from sightline.cli.console import note
from sightline.cli.evaluate import evaluate
from sightline.cli.mistakes import UnknownOptionError, UsageError, problem_of
from sightline.cli.predict import predict
from sightline.cli.run import demo, run
from sightline.cli.serve import serve
from sightline.cli.train import train
from sightline.cli.tune import tune
from sightline.cli.zoo import zoo
from sightline.errors import SightlineError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="From labelled pictures to a served object detector.",
)

OVERRIDES = {"ignore_unknown_options": True}
"""Trailing KEY VALUE pairs may hold values like -1; an option that does not exist is then told from a key by its dashes."""

app.command(cls=dataset.SeveralValues, context_settings=OVERRIDES)(run)
app.command()(demo)
dataset.app.command()(check)
app.add_typer(dataset.app, name="dataset")
app.command(context_settings=OVERRIDES)(train)
app.command(context_settings=OVERRIDES)(tune)
app.command()(evaluate)
app.command()(predict)
app.add_typer(bundle.app, name="bundle")
app.command()(serve)
app.add_typer(benchmark.app, name="benchmark")
app.command()(zoo)
cloud.app.command(context_settings=OVERRIDES)(cloud_tune)
cloud.app.command()(cloud_benchmark)
for command in (deploy, weights, invoke, transform, template, delete, policy):
    cloud.app.command()(command)
cloud.app.add_typer(cloud_image.app, name="image")
app.add_typer(cloud.app, name="cloud")


def show_version(asked: bool) -> None:
    if asked:
        print(f"sightline {sightline.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """From labelled pictures to a served object detector."""


def main() -> None:
    """Exit codes: 0 done, 1 it failed, 2 asked wrongly or given something broken; 130 stopped with Ctrl-C."""
    try:
        code = app(prog_name="sightline", standalone_mode=False)
    except (UsageError, UnknownOptionError) as error:
        if type(error).__name__ != "NoArgsIsHelpError":  # Typer has printed the help then
            note(f"error: {problem_of(error, typer.main.get_command(app), sys.argv[1:])}")
        sys.exit(2)
    except typer.Abort:
        sys.exit(130)
    except SightlineError as error:
        note(f"error: {error}")
        sys.exit(error.exit_code)
    except BrokenPipeError:  # `sightline predict ... | head`: the reader has enough
        sys.stderr.close()
        sys.exit(0)
    except OSError as error:  # no space, no permission: nothing of ours to correct, and no stack trace helps
        where, what = error.filename or "sightline", error.strerror or str(error)
        note(f"error: {where}: {what}. Check the path, its permissions and the space that is left.")
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)
