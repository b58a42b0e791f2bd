"""`python -m qzoo.compat SCRIPT [ARGUMENTS]`: run a script of pytorch-quantization as it is, without that package."""

from __future__ import annotations

import os
import runpy
import sys

from qzoo.compat.alias import stand_in

OLD_NAME = os.path.join(os.path.dirname(os.path.abspath(__file__)), "old_name")
USAGE = """Usage: python -m qzoo.compat SCRIPT [ARGUMENTS]

Runs a script that imports pytorch_quantization, unchanged: qzoo's stand-in answers to the name.
To change the script instead, once: `pytorch_quantization` becomes `qzoo.compat.pytorch_quantization`.

Example: python -m qzoo.compat calibrate_quant_resnet50.py --data /data/imagenet"""


def main() -> None:
    """Runs the script that the first argument names; the rest is its own."""
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print(USAGE)
        sys.exit(0 if len(sys.argv) > 1 else 2)
    script = sys.argv[1]
    if not os.path.isfile(script):
        print(f"No script at {script}.\n\n{USAGE}", file=sys.stderr)
        sys.exit(2)
    stand_in()
    # Processes that the script starts import it anew: spawned ones with this path, others with the environment's.
    sys.path.append(OLD_NAME)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (OLD_NAME, os.environ.get("PYTHONPATH"))))
    sys.argv = sys.argv[1:]
    # As Python does for a script: what lies beside it can be imported.
    sys.path.insert(0, os.path.dirname(os.path.abspath(script)))
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
