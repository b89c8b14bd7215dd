// Plays the kubelet of one fake node, for the load test: pods that are scheduled to it run at once, and a coordinator ends
// some seconds later with a termination message that says that its query is done. No containers, no images.
//
//	fakekubelet -api http://127.0.0.1:8001 -node floe-fake -run 3s
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"sync"
	"time"
)

var (
	api      = flag.String("api", "http://127.0.0.1:8001", "address of a kubectl proxy")
	node     = flag.String("node", "floe-fake", "name of the node")
	runTime  = flag.Duration("run", 3*time.Second, "how long a coordinator runs")
	workers  = flag.Int("concurrency", 16, "calls at a time")
	client   = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	outcome  = `{"type":"done","outcome":{"rows":1,"bytesWritten":1,"bytesShuffled":1,"durationMs":1000,"files":1,"stages":[],"singleWorker":[],"warnings":[]}}`
	attempts sync.Map // uid -> what was done for the pod
	address  string   // where pods are said to be: a real node, on which nothing answers at their ports
	queue    = make(chan func(), 1<<20)
)

type pod struct {
	Metadata struct {
		Name, Namespace, UID, ResourceVersion string
		DeletionTimestamp                     string
		Labels                                map[string]string
	}
	Status struct{ Phase string }
	Spec   struct{ NodeName string }
}

type watchEvent struct {
	Type   string
	Object json.RawMessage
}

func main() {
	flag.Parse()
	for range *workers {
		go func() {
			for work := range queue {
				work()
			}
		}()
	}
	must(findAddress())
	must(makeNode())
	go heartbeat()
	for {
		if err := follow(); err != nil {
			log.Print(err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// call sends JSON and gives the body of the answer; a 404 is no error, since pods go away while they are played.
func call(method, path, kind string, body any) ([]byte, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequest(method, *api+path, bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", kind)
	answer, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	said, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode >= 300 && answer.StatusCode != 404 && answer.StatusCode != 409 {
		err = fmt.Errorf("%s %s: %s %.300s", method, path, answer.Status, said)
	}
	return said, err
}

const merge = "application/merge-patch+json"

type object = map[string]any

// findAddress takes the first node's: an address that is nowhere would be waited for, and a loopback one is refused by the
// API server as a service's endpoint.
func findAddress() error {
	text, err := call("GET", "/api/v1/nodes", "application/json", nil)
	if err != nil {
		return err
	}
	var list struct {
		Items []struct {
			Status struct {
				Addresses []struct{ Type, Address string }
			}
		}
	}
	if err := json.Unmarshal(text, &list); err != nil {
		return err
	}
	for _, one := range list.Items {
		for _, known := range one.Status.Addresses {
			if known.Type == "InternalIP" {
				address = known.Address
				return nil
			}
		}
	}
	return fmt.Errorf("no node has an address")
}

func makeNode() error {
	_, err := call("POST", "/api/v1/nodes", "application/json", object{
		"apiVersion": "v1", "kind": "Node",
		"metadata": object{"name": *node, "labels": object{"example.com/fake": "true"}},
		"spec":     object{"taints": []object{{"key": "example.com/fake", "effect": "NoSchedule"}}},
	})
	if err != nil {
		return err
	}
	return status()
}

// status says that the node is ready and has room for everything.
func status() error {
	room := object{"cpu": "100000", "memory": "1000Ti", "pods": "100000", "ephemeral-storage": "1000Ti"}
	now := time.Now().UTC().Format(time.RFC3339)
	_, err := call("PATCH", "/api/v1/nodes/"+*node+"/status", merge, object{"status": object{
		"capacity": room, "allocatable": room,
		"conditions": []object{{"type": "Ready", "status": "True", "reason": "Fake", "message": "", "lastHeartbeatTime": now, "lastTransitionTime": now}},
	}})
	return err
}

func heartbeat() {
	for {
		time.Sleep(5 * time.Second)
		if err := status(); err != nil {
			log.Print(err)
		}
	}
}

// follow lists the node's pods and watches them until the connection ends.
func follow() error {
	selector := "fieldSelector=" + url.QueryEscape("spec.nodeName="+*node)
	// From the cache of the API server: this is asked again whenever a watch breaks off.
	answer, err := client.Get(*api + "/api/v1/pods?resourceVersion=0&" + selector)
	if err != nil {
		return err
	}
	var list struct {
		Metadata struct{ ResourceVersion string }
		Items    []pod
	}
	err = json.NewDecoder(answer.Body).Decode(&list)
	answer.Body.Close()
	if err != nil {
		return err
	}
	for _, one := range list.Items {
		play(one)
	}
	answer, err = client.Get(*api + "/api/v1/pods?watch=1&" + selector + "&resourceVersion=" + list.Metadata.ResourceVersion)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	decoder := json.NewDecoder(answer.Body)
	for {
		var event watchEvent
		if err := decoder.Decode(&event); err != nil {
			return err
		}
		var one pod
		if event.Type == "ERROR" {
			return fmt.Errorf("watch: %s", event.Object)
		}
		if err := json.Unmarshal(event.Object, &one); err != nil {
			return err
		}
		if event.Type == "DELETED" {
			attempts.Delete(one.Metadata.UID + "run")
			attempts.Delete(one.Metadata.UID + "gone")
			continue
		}
		play(one)
	}
}

// once lets each step of a pod's life happen one time.
func once(key string) bool {
	_, done := attempts.LoadOrStore(key, true)
	return !done
}

func play(one pod) {
	path := fmt.Sprintf("/api/v1/namespaces/%s/pods/%s", one.Metadata.Namespace, one.Metadata.Name)
	if one.Metadata.DeletionTimestamp != "" {
		if once(one.Metadata.UID + "gone") {
			queue <- func() {
				say(call("DELETE", path, "application/json", object{"gracePeriodSeconds": 0}))
			}
		}
		return
	}
	if !once(one.Metadata.UID + "run") {
		return
	}
	queue <- func() { say(call("PATCH", path+"/status", merge, running())) }
	if one.Metadata.Labels["floe.dev/role"] == "coordinator" {
		time.AfterFunc(*runTime, func() {
			queue <- func() { say(call("PATCH", path+"/status", merge, ended())) }
		})
	}
}

func say(_ []byte, err error) {
	if err != nil {
		log.Print(err)
	}
}

func running() object {
	now := time.Now().UTC().Format(time.RFC3339)
	return object{"status": object{
		"phase": "Running", "podIP": address, "podIPs": []object{{"ip": address}}, "startTime": now,
		"conditions":        []object{{"type": "Ready", "status": "True", "lastTransitionTime": now}, {"type": "PodScheduled", "status": "True", "lastTransitionTime": now}},
		"containerStatuses": []object{{"name": "floe", "ready": true, "started": true, "restartCount": 0, "image": "fake", "imageID": "fake", "state": object{"running": object{"startedAt": now}}}},
	}}
}

func ended() object {
	now := time.Now().UTC().Format(time.RFC3339)
	return object{"status": object{
		"phase":      "Succeeded",
		"conditions": []object{{"type": "Ready", "status": "False", "reason": "PodCompleted", "lastTransitionTime": now}},
		"containerStatuses": []object{{"name": "floe", "ready": false, "started": false, "restartCount": 0, "image": "fake", "imageID": "fake",
			"state": object{"terminated": object{"exitCode": 0, "reason": "Completed", "message": outcome, "startedAt": now, "finishedAt": now}}}},
	}}
}
