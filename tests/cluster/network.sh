# The network of the test cluster: a link that carries the node's address, forwarding, and the pods' CNI configuration.
# Every pod hangs on a link of its own (ptp) whose packets the host routes, so services need no bridge filtering.
# shellcheck shell=bash

switches=(
    net/ipv4/ip_forward net/ipv6/conf/all/forwarding net/ipv4/conf/all/route_localnet net/ipv4/vs/conntrack
    net/netfilter/nf_conntrack_max net/netfilter/nf_conntrack_tcp_be_liberal net/netfilter/nf_conntrack_tcp_timeout_established
    net/netfilter/nf_conntrack_tcp_timeout_close_wait net/netfilter/nf_conntrack_udp_timeout
    net/netfilter/nf_conntrack_udp_timeout_stream vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops
    kernel/keys/root_maxkeys kernel/keys/root_maxbytes
)

network_up() {
    local directory switch
    # What this, the kubelet and kube-proxy change of the kernel is put back by `down` as it was found.
    [ -f "$state/sysctls" ] || for switch in "${switches[@]}"; do
        [ ! -r "/proc/sys/$switch" ] || echo "$switch $(cat "/proc/sys/$switch")"
    done >"$state/sysctls"
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
    local table switch value
    for table in "ip kube-proxy" "ip6 kube-proxy"; do
        # shellcheck disable=SC2086
        nft delete table $table 2>/dev/null || true
    done
    ip link delete "$link" 2>/dev/null || true
    [ ! -f "$state/sysctls" ] || while read -r switch value; do
        [ "$(cat "/proc/sys/$switch" 2>/dev/null)" = "$value" ] || echo "$value" 2>/dev/null >"/proc/sys/$switch" || true
    done <"$state/sysctls"
}

# What enforced NetworkPolicies (tests/cluster/policies), with its chains and sets.
policies_down() {
    [ -e "$state/run/policies" ] || return 0
    local family tables
    stop kube-router
    for family in ip ip6; do
        tables="${family}tables"
        "$tables-save" -t filter | { grep -vE 'KUBE-(ROUTER|POD-FW|NWPLCY)-' || true; } | "$tables-restore" -T filter
        # The table itself, if there was none before.
        ! grep -qx "$family" "$state/run/policies" || nft delete table "$family" filter 2>/dev/null || true
    done
    ipset list -n | { grep -E '^(inet6:)?KUBE-' || true; } | xargs -r -n 1 ipset destroy || say "sets of kube-router are still in use"
    rm -f "$state/run/policies"
}
