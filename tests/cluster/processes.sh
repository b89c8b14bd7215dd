# The processes of the test cluster: containerd, etcd, the Kubernetes control plane, kubelet and kube-proxy.
# Each has a log, a pid file and the name by which `running` knows it again.
# shellcheck shell=bash

start() { # name, command...
    local name="$1"
    shift
    running "$name" && return
    echo "$1" >"$state/run/$name.name"
    setsid nohup "$@" >"$logs/$name.log" 2>&1 </dev/null &
    echo $! >"$state/run/$name.pid"
}

processes_start() {
    containerd_configuration >"$state/containerd.toml"
    kubelet_configuration >"$state/kubelet.yaml"
    proxy_configuration >"$state/kube-proxy.yaml"
    start etcd "$(command -v etcd)" --data-dir "$state/etcd" --listen-client-urls "http://127.0.0.1:$etcd_port" \
        --advertise-client-urls "http://127.0.0.1:$etcd_port" --listen-peer-urls "http://127.0.0.1:$etcd_peer_port" \
        --initial-advertise-peer-urls "http://127.0.0.1:$etcd_peer_port" \
        --initial-cluster "default=http://127.0.0.1:$etcd_peer_port" --quota-backend-bytes 4294967296 \
        --auto-compaction-retention 5m
    start containerd "$(command -v containerd)" --config "$state/containerd.toml"
    start kube-apiserver "$(command -v kube-apiserver)" --etcd-servers "http://127.0.0.1:$etcd_port" \
        --service-cluster-ip-range "$service_cidr" --bind-address 0.0.0.0 --advertise-address "$node_ip" \
        --secure-port "$api_port" --tls-cert-file "$pki/apiserver.crt" --tls-private-key-file "$pki/apiserver.key" \
        --client-ca-file "$pki/ca.crt" --kubelet-client-certificate "$pki/kubelet-client.crt" \
        --kubelet-client-key "$pki/kubelet-client.key" --kubelet-preferred-address-types InternalIP \
        --service-account-key-file "$pki/sa.pub" --service-account-signing-key-file "$pki/sa.key" \
        --service-account-issuer https://kubernetes.default.svc.cluster.local --authorization-mode Node,RBAC \
        --enable-admission-plugins NodeRestriction --allow-privileged=true --profiling=false
    wait_for 90 "the API server's readiness" kubectl get --raw /readyz
    start kube-controller-manager "$(command -v kube-controller-manager)" --kubeconfig "$pki/controller-manager.conf" \
        --service-account-private-key-file "$pki/sa.key" --root-ca-file "$pki/ca.crt" \
        --use-service-account-credentials=true --leader-elect=false --profiling=false --bind-address 127.0.0.1 \
        --controllers '*,-cloud-node-lifecycle-controller' --kube-api-qps 200 --kube-api-burst 400
    start kube-scheduler "$(command -v kube-scheduler)" --kubeconfig "$pki/scheduler.conf" --leader-elect=false \
        --profiling=false --bind-address 127.0.0.1 --kube-api-qps 200 --kube-api-burst 400
    wait_for 30 "containerd's start" ctr version
    # The pause image has to be there before the first pod.
    source "$here/images.sh"
    image_present localhost/floe-pause:test || images_static floe-pause "$(command -v pause)"
    start kubelet "$(command -v kubelet)" --config "$state/kubelet.yaml" --kubeconfig "$pki/kubelet.conf" \
        --hostname-override "$node" --root-dir "$state/kubelet" --node-ip "$node_ip" \
        --cert-dir "$state/kubelet-pki"
    start kube-proxy "$(command -v kube-proxy)" --config "$state/kube-proxy.yaml"
    wait_for 60 "the node's registration" kubectl get node "$node"
}

containerd_configuration() {
    # restrict_oom_score_adj: on machines without CAP_SYS_RESOURCE runc could not start a container otherwise.
    cat <<C
version = 2
root = "$state/containerd"
state = "$state/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper"]
[grpc]
  address = "$socket"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/floe-pause:test"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$state/cni"
C
}

kubelet_configuration() {
    cat <<C
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $pki/ca.crt}}
authorization: {mode: Webhook}
port: $kubelet_port
healthzPort: 0
cgroupDriver: cgroupfs
cgroupRoot: /
failSwapOn: false
failCgroupV1: false
containerRuntimeEndpoint: unix://$socket
clusterDNS: ["$dns_ip"]
clusterDomain: cluster.local
tlsCertFile: $pki/kubelet.crt
tlsPrivateKeyFile: $pki/kubelet.key
podLogsDir: $state/pod-logs
volumePluginDir: $state/volume-plugins
makeIPTablesUtilChains: false
maxPods: 250
serializeImagePulls: false
registryPullQPS: 0
kubeAPIQPS: 100
kubeAPIBurst: 200
nodeStatusUpdateFrequency: 5s
resolvConf: $state/resolv.conf
evictionHard: {memory.available: "100Mi", nodefs.available: "1%", imagefs.available: "1%"}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
C
    echo "# pods resolve only what the cluster's own DNS knows" >"$state/resolv.conf"
}

proxy_configuration() {
    cat <<C
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: $pki/proxy.conf}
mode: nftables
clusterCIDR: $pod_cidr
conntrack: {maxPerCore: 0, min: 0}
hostnameOverride: $node
healthzBindAddress: 127.0.0.1:20256
metricsBindAddress: 127.0.0.1:20249
nftables: {minSyncPeriod: 100ms, syncPeriod: 30s}
C
}
