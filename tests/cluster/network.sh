# The network of the test cluster: a link that carries the node's address, forwarding, and the pods' CNI configuration.
# Every pod hangs on a link of its own (ptp) whose packets the host routes, so services need no bridge filtering.
# shellcheck shell=bash

network_up() {
    local directory
    # The switch is put back by `down` as it was found.
    [ -f "$state/ip_forward" ] || cat /proc/sys/net/ipv4/ip_forward >"$state/ip_forward"
    echo 1 >/proc/sys/net/ipv4/ip_forward
    ip link show "$link" >/dev/null 2>&1 || ip link add "$link" type bridge
    ip address replace "$node_ip/32" dev "$link"
    ip link set "$link" up
    # Directories that containerd, its plugins and the kubelet make whatever they are told: `down` removes those that were
    # not there before.
    if [ ! -f "$state/made" ]; then
        for directory in /var/lib/cni /run/containerd /var/lib/kubelet; do
            [ -d "$directory" ] || echo "$directory"
        done >"$state/made"
    fi
    mkdir -p "$state/cni"
    cat >"$state/cni/10-floe.conflist" <<C
{"cniVersion": "0.4.0", "name": "floe", "plugins": [
  {"type": "ptp", "ipMasq": false, "mtu": 1500, "ipam": {
    "type": "host-local", "dataDir": "$state/ipam", "ranges": [[{"subnet": "$pod_cidr", "gateway": "$node_ip"}]],
    "routes": [{"dst": "0.0.0.0/0"}]}}
]}
C
}

network_down() {
    local table
    for table in "ip kube-proxy" "ip6 kube-proxy"; do
        # shellcheck disable=SC2086
        nft delete table $table 2>/dev/null || true
    done
    ip link delete "$link" 2>/dev/null || true
    if [ -f "$state/ip_forward" ]; then cat "$state/ip_forward" >/proc/sys/net/ipv4/ip_forward; fi
}
