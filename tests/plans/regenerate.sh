#!/bin/sh
# Makes the fixture plans anew, with each accepted Polars in a venv of its own. Needs network; the ordinary tests do not.
set -eu
# Pickled functions name the files they come from: VENVS should be a path that says nothing about the machine.
cd "$(dirname "$0")"
venvs=${VENVS:-/opt/polars}
rm -rf fixtures expected data
for version in 1.43.2 1.44.2 2.0.0 2.1.0; do
    test -x "$venvs/$version/bin/python" || {
        python3 -m venv "$venvs/$version"
        "$venvs/$version/bin/pip" install -q "polars==$version" cloudpickle deltalake
    }
    # Compiled under a bare name, so that pickled functions do not carry the path of this checkout.
    "$venvs/$version/bin/python" -c 'exec(compile(open("make_plans.py").read(), "make_plans.py", "exec"))' "fixtures/$version"
done
