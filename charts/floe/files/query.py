"""`helm test`: asks the operator whether it is ready, then runs a tiny query by the cluster's API and deletes it."""

import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.request

ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
API = f"https://{os.environ['KUBERNETES_SERVICE_HOST']}:{os.environ['KUBERNETES_SERVICE_PORT']}"
QUERIES = f"{API}/apis/floe.dev/v1alpha1/namespaces/{os.environ['NAMESPACE']}/distributedqueries"
NAME = os.environ["QUERY"]
LIMIT_SECONDS = int(os.environ["TIMEOUT_SECONDS"])
QUERY = {
    "apiVersion": "floe.dev/v1alpha1",
    "kind": "DistributedQuery",
    "metadata": {"name": NAME},
    "spec": {
        "plan": {"python": {"script": "result = pl.LazyFrame({'x': [1, 2, 3]}).select(pl.col('x').sum())"}},
        "compute": {
            "workers": 1,
            "cpus": "100m",
            "memory": "256Mi",
            "coordinator": {"cpus": "100m", "memory": "256Mi"},
        },
        "startingDeadlineSeconds": LIMIT_SECONDS,
        "activeDeadlineSeconds": LIMIT_SECONDS,
    },
}


def call(method, url, body=None):
    """One call of the API: the answer, or None when there is no such object."""
    with open(f"{ACCOUNT}/token") as token:
        headers = {"Authorization": f"Bearer {token.read()}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers, method=method)
    try:
        context = ssl.create_default_context(cafile=f"{ACCOUNT}/ca.crt")
        with urllib.request.urlopen(request, timeout=10, context=context) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        if error.code == 404 and method != "POST":
            return None
        raise SystemExit(f"{method} {url}: {error.code} {error.read().decode()}") from error


def main():
    with urllib.request.urlopen(f"{os.environ['OPERATOR']}/readyz", timeout=10) as answer:
        print(f"the operator is ready ({answer.status})")
    deadline = time.monotonic() + LIMIT_SECONDS
    call("DELETE", f"{QUERIES}/{NAME}")
    while call("GET", f"{QUERIES}/{NAME}") is not None and time.monotonic() < deadline:
        time.sleep(0.5)
    call("POST", QUERIES, QUERY)
    print(f"query {NAME} is made")
    phase = status = None
    while time.monotonic() < deadline and phase not in ("Succeeded", "Failed", "Cancelled"):
        time.sleep(0.5)
        status = (call("GET", f"{QUERIES}/{NAME}") or {}).get("status", {})
        if status.get("phase") != phase:
            phase = status.get("phase")
            print(f"{phase}: {status.get('reason', '')} {status.get('message', '')}", flush=True)
    call("DELETE", f"{QUERIES}/{NAME}")
    return 0 if phase == "Succeeded" else f"the query did not succeed: {json.dumps(status)}"


sys.exit(main())
