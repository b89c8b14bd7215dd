// Package apiserver tests the CRD with the API server's own code: schema, defaults, pruning and CEL rules with their
// cost limits, without a cluster. Only tests live here: `go test ./...`.
package apiserver
