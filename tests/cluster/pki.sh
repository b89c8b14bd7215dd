# Keys, certificates and kubeconfigs of the test cluster, made once.
# shellcheck shell=bash

pki_make() {
    [ -f "$pki/complete" ] && return
    (
        cd "$pki"
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout ca.key -out ca.crt -days 365 -subj "/CN=floe-test-ca" 2>/dev/null
        certificate apiserver /CN=kube-apiserver "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local,DNS:localhost,IP:$api_service_ip,IP:127.0.0.1,IP:$node_ip"
        certificate admin /O=system:masters/CN=floe-test-admin DNS:admin
        certificate controller-manager /CN=system:kube-controller-manager DNS:kcm
        certificate scheduler /CN=system:kube-scheduler DNS:scheduler
        certificate proxy /CN=system:kube-proxy DNS:proxy
        certificate kubelet "/O=system:nodes/CN=system:node:$node" "DNS:$node,IP:127.0.0.1,IP:$node_ip"
        certificate kubelet-client /O=system:masters/CN=kube-apiserver-kubelet-client DNS:client
        openssl genrsa -out sa.key 2048 2>/dev/null
        openssl rsa -in sa.key -pubout -out sa.pub 2>/dev/null
        local user
        for user in admin controller-manager scheduler proxy kubelet; do configuration "$user" >"$user.conf"; done
        touch complete
    )
    install -m 600 "$pki/admin.conf" "$kubeconfig"
}

certificate() { # name, subject, alternative names
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout "$1.key" -out "$1.csr" -subj "$2" 2>/dev/null
    openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -out "$1.crt" -days 365 \
        -extfile <(printf 'subjectAltName=%s\nextendedKeyUsage=clientAuth,serverAuth' "$3") 2>/dev/null
    rm -f "$1.csr"
}

configuration() { # user
    cat <<C
apiVersion: v1
kind: Config
clusters: [{name: floe, cluster: {server: "https://127.0.0.1:$api_port", certificate-authority-data: $(base64 -w0 ca.crt)}}]
users: [{name: $1, user: {client-certificate-data: $(base64 -w0 "$1.crt"), client-key-data: $(base64 -w0 "$1.key")}}]
contexts: [{name: floe, context: {cluster: floe, user: $1}}]
current-context: floe
C
}
