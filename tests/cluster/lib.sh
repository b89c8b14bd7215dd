# What the scripts of the test cluster share: where its state lies, its names and addresses, processes by pid file.
# Sourced, never run. Nothing here changes the machine; `up` and `down` do.
# shellcheck shell=bash disable=SC2034

FLOE_CACHE="${FLOE_CACHE:-$HOME/.cache/floe}"
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
state="$FLOE_CACHE/cluster"
pki="$state/pki"
logs="$state/log"
socket="$state/run/containerd.sock"
kubeconfig="$state/kubeconfig"

node=floe-node
link=floe0
node_ip=10.85.0.1
pod_cidr=10.85.0.0/16
service_cidr=10.96.0.0/16
api_service_ip=10.96.0.1
dns_ip=10.96.0.10
# Ports that another Kubernetes of this machine is unlikely to hold.
api_port=16443
etcd_port=12379
etcd_peer_port=12380
kubelet_port=11250

packages=(etcd-server containerd runc containernetworking-plugins nftables conntrack iproute2 openssl buildah mmdebstrap
    iptables ipset)

say() { echo "cluster: $*" >&2; }
refuse() {
    echo "cluster: not to be had here: $*" >&2
    exit 3
}

kubectl() { command kubectl --kubeconfig "$kubeconfig" "$@"; }
ctr() { command ctr --address "$socket" --namespace k8s.io "$@"; }

# running <name>: whether the process of that pid file lives (and is ours: ids are used again after a reboot).
running() {
    local pid
    pid="$(cat "$state/run/$1.pid" 2>/dev/null)" || return 1
    [ -r "/proc/$pid/cmdline" ] && tr '\0' ' ' <"/proc/$pid/cmdline" | grep -qF "$(cat "$state/run/$1.name")"
}

# wait_for <seconds> <what> <command...>
wait_for() {
    local limit="$1" what="$2" begin=$SECONDS
    shift 2
    until "$@" >/dev/null 2>&1; do
        if [ $((SECONDS - begin)) -ge "$limit" ]; then
            say "$what did not happen within $limit s (logs in $logs)"
            return 1
        fi
        sleep 0.2
    done
}

node_is_ready() {
    kubectl get node "$node" -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}' 2>/dev/null | grep -q True
}

# Ends a process by its pid file: first a signal, ten seconds later the hard way.
stop() {
    running "$1" || { rm -f "$state/run/$1.pid" && return; }
    local pid
    pid="$(cat "$state/run/$1.pid")"
    kill "$pid" 2>/dev/null || true
    wait_for 10 "the end of $1" bash -c "! kill -0 $pid" || kill -KILL "$pid" 2>/dev/null || true
    rm -f "$state/run/$1.pid"
}
