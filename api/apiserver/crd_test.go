package apiserver

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	apiext "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	v1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	schemavalidation "k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/util/json"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"
)

const root = "../.."

// server is what the API server makes of the CRD.
type server struct {
	structural *structuralschema.Structural
	validator  schemavalidation.SchemaValidator
	cel        *cel.Validator
}

func start(t *testing.T) *server {
	t.Helper()
	return startOf(t, "distributedqueries")
}

func startOf(t *testing.T, plural string) *server {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "crds/floe.dev_"+plural+".yaml"))
	must(t, err)
	var crd v1.CustomResourceDefinition
	must(t, yaml.UnmarshalStrict(text, &crd))
	v1.SetDefaults_CustomResourceDefinition(&crd)
	v1.SetDefaults_CustomResourceDefinitionSpec(&crd.Spec)
	var internal apiext.CustomResourceDefinition
	must(t, v1.Convert_v1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(&crd, &internal, nil))
	internal.Status.StoredVersions = []string{"v1alpha1"}
	for _, fault := range validation.ValidateCustomResourceDefinition(context.Background(), &internal) {
		t.Errorf("the API server refuses the CRD: %v", fault)
	}
	if t.Failed() {
		t.FailNow()
	}
	schema := internal.Spec.Validation
	if schema == nil {
		schema = internal.Spec.Versions[0].Schema
	}
	structural, err := structuralschema.NewStructural(schema.OpenAPIV3Schema)
	must(t, err)
	validator, _, err := schemavalidation.NewSchemaValidator(schema.OpenAPIV3Schema)
	must(t, err)
	return &server{structural, validator, cel.NewValidator(structural, true, celconfig.PerCallLimit)}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func object(t *testing.T, text string) map[string]any {
	t.Helper()
	asJSON, err := yaml.YAMLToJSONStrict([]byte(text))
	must(t, err)
	var made map[string]any
	must(t, json.Unmarshal(asJSON, &made))
	return made
}

// admit does to an object what a create or an update does, and returns the faults as one text.
func (s *server) admit(made, old map[string]any) string {
	var faults []string
	options := structuralschema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true}
	for _, path := range pruning.PruneWithOptions(made, s.structural, true, options) {
		faults = append(faults, "unknown field "+path)
	}
	defaulting.PruneNonNullableNullsWithoutDefaults(made, s.structural)
	defaulting.Default(made, s.structural)
	for _, fault := range schemavalidation.ValidateCustomResource(nil, made, s.validator) {
		faults = append(faults, fault.Error())
	}
	var before any
	if old != nil {
		before = old
	}
	rules, _ := s.cel.Validate(context.Background(), nil, s.structural, made, before, celconfig.RuntimeCELCostBudget)
	for _, fault := range rules {
		faults = append(faults, fault.Error())
	}
	return strings.Join(faults, "\n")
}

const sound = `
apiVersion: floe.dev/v1alpha1
kind: DistributedQuery
metadata: {name: q3}
spec:
  plan: {python: {script: "result = scan('t')"}}
  tables: {t: {format: parquet, uri: s3://b/t/}}
  sink: {uri: s3://b/out/, format: parquet}
`

// with sets what a dotted path names to a YAML value; an empty one takes it away.
func with(t *testing.T, text, path, value string) map[string]any {
	t.Helper()
	made := object(t, text)
	set(t, made, path, value)
	return made
}

func set(t *testing.T, made map[string]any, path, value string) {
	t.Helper()
	parts := strings.Split(path, ".")
	at := made
	for _, part := range parts[:len(parts)-1] {
		next, ok := at[part].(map[string]any)
		if !ok {
			next = map[string]any{}
			at[part] = next
		}
		at = next
	}
	last := parts[len(parts)-1]
	if value == "" {
		delete(at, last)
		return
	}
	asJSON, err := yaml.YAMLToJSONStrict([]byte("v: " + value))
	must(t, err)
	var wrapped map[string]any
	must(t, json.Unmarshal(asJSON, &wrapped))
	at[last] = wrapped["v"]
}

func TestSoundQueriesPassAndGetTheirDefaults(t *testing.T) {
	s := start(t)
	made := object(t, sound)
	if faults := s.admit(made, nil); faults != "" {
		t.Fatal(faults)
	}
	spec := made["spec"].(map[string]any)
	compute := spec["compute"].(map[string]any)
	execution := spec["execution"].(map[string]any)
	for path, pair := range map[string][2]any{
		"compute.cpus":             {compute["cpus"], "1"},
		"compute.memory":           {compute["memory"], "2Gi"},
		"compute.scratch.medium":   {compute["scratch"].(map[string]any)["medium"], "emptyDir"},
		"execution.mode":           {execution["mode"], "auto"},
		"execution.broadcastLimit": {execution["broadcastLimit"], "256Mi"},
		"execution.shuffle.place":  {execution["shuffle"].(map[string]any)["place"], "auto"},
		"sink.mode":                {spec["sink"].(map[string]any)["mode"], "error"},
		"backoffLimit":             {spec["backoffLimit"], int64(2)},
		"suspend":                  {spec["suspend"], false},
	} {
		if pair[0] != pair[1] {
			t.Errorf("the default of %s is %v, not %v", path, pair[0], pair[1])
		}
	}
	for _, change := range [][2]string{
		{"spec.compute.cpus", "500m"},
		{"spec.compute", "{cpus: 500m, cpuLimit: 2}"},
		{"spec.compute.cpus", "2"},
		{"spec.compute.cpus", `"0.5"`},
		{"spec.compute.memory", "4294967296"},
		{"spec.compute.workers", "1"},
		{"spec.compute", "{minWorkers: 2, maxWorkers: 8}"},
		{"spec.compute", "{maxWorkers: 8}"},
		{"spec.compute.scratch", "{medium: claim, size: 50Gi, storageClassName: fast}"},
		{"spec.compute.podTemplate", "{metadata: {labels: {a: b}}, spec: {containers: [{name: floe, anything: 1}]}}"},
		{"spec.compute.contextRef", "{name: warm}"},
		{"spec.execution.shuffle", "{place: store, uri: 's3://b/s/', compression: zstd}"},
		{"spec.tables.u", "{uri: data/u.CSV.gz, options: {separator: ';', has_header: false}}"},
		{"spec.params", "{a: 1, b: [x, {c: null}]}"},
		{"spec.sink", ""},
		{"spec.sink", "{uri: out/q.csv, csv: {separator: ';'}}"},
		{"spec.sink.partitionBy", "[year]"},
		{"spec.sink", "null"},
		{"spec.managedBy", "kueue.x-k8s.io/multikueue"},
		{"spec", "{plan: {sql: select 1}, tables: {u: {catalog: lake, table: ns.u, options: {branch: audit}}}, " +
			"catalogs: {lake: {uri: 'https://c', secretRef: {name: keys}}}, sink: {catalog: lake, table: a.b.out, mode: append}}"},
	} {
		if faults := s.admit(with(t, sound, change[0], change[1]), nil); faults != "" {
			t.Errorf("%s: %s\n%s", change[0], change[1], faults)
		}
	}
}

func TestEachRuleRefusesWithItsMessage(t *testing.T) {
	s := start(t)
	for _, c := range [][3]string{
		{"metadata.name", strings.Repeat("q", 51), "metadata.name names pods"},
		{"metadata.name", "3q", "metadata.name names pods"},
		{"spec.plan", "{}", "exactly one of plan.dsl, plan.sql and plan.python"},
		{"spec.plan.sql", "select 1", "exactly one of plan.dsl, plan.sql and plan.python"},
		{"spec.plan", "{dsl: {}}", "exactly one of dsl.inline"},
		{"spec.plan", "{dsl: {inline: AAAA, path: x}}", "exactly one of dsl.inline"},
		{"spec.plan", "{dsl: {path: x}}", "a dsl plan names its own sources"},
		{"spec.plan", "{dsl: {path: x, storage: lake}}", "dsl.storage goes with dsl.uri only"},
		{"spec.plan", "{dsl: {uri: 's3://b/q', storage: lake}}", "plan.dsl.storage must be the name of one of"},
		{"spec.tables.u", "{uri: data/u/}", "write format (parquet"},
		{"spec.views", "{v: select 1}", "views are for SQL"},
		{"spec.tables.u", "{uri: data/u.csv, storage: lake}", "a table's storage must be the name of one of"},
		{"spec.tables.u", "{format: parquet}", "write uri, or catalog and table"},
		{"spec.tables.u", "{catalog: lake}", "write uri, or catalog and table"},
		{"spec.tables.u", "{uri: data/u.csv, catalog: lake, table: ns.u}", "write uri, or catalog and table"},
		{"spec.tables.u", "{catalog: lake, table: ns.u, format: csv}", "leave format out"},
		{"spec.tables.u", "{catalog: lake, table: ns.u}", "a table's catalog must be the name of one of"},
		{"spec.catalogs", "{lake: {type: glue, uri: 'https://c'}}", "Unsupported value"},
		{"spec.sink", "{format: parquet}", "write sink.uri, or sink.catalog and sink.table"},
		{"spec.sink", "{catalog: lake, table: ns.u, format: csv}", "leave sink.format and sink.csv out"},
		{"spec.sink", "{catalog: lake, table: ns.u}", "sink.catalog must be the name of one of"},
		{"spec.compute", "{workers: 4, maxWorkers: 8}", "either compute.workers or"},
		{"spec.compute", "{minWorkers: 4}", "compute.minWorkers needs compute.maxWorkers"},
		{"spec.compute", "{minWorkers: 8, maxWorkers: 4}", "must not be above compute.maxWorkers"},
		{"spec.compute.cpus", "0", "compute.cpus must be above 0"},
		{"spec.compute.memory", "1Mi", "compute.memory must be at least 64Mi"},
		{"spec.compute.memory", "2", "compute.memory must be at least 64Mi"},
		{"spec.compute", "{cpus: 2, cpuLimit: 1500m}", "compute.cpuLimit must not be below compute.cpus"},
		{"spec.compute.coordinator", "{cpus: 2, cpuLimit: '1'}", "compute.coordinator.cpuLimit must not be below"},
		{"spec.compute.scratch", "{medium: claim}", "needs scratch.size"},
		{"spec.compute.scratch", "{storageClassName: fast}", "goes with scratch.medium: claim only"},
		{"spec.compute.env", "[{name: FLOE_TOKEN, value: x}]", "begin with FLOE_ are Floe's own"},
		{"spec.compute", "{contextRef: {name: warm}, image: 'floe:1'}", "belong to the context"},
		{"spec.execution.shuffle", "{place: store}", "needs shuffle.uri"},
		{"spec.execution.shuffle", "{uri: 's3://b/s/'}", "goes with shuffle.place: store only"},
		{"spec.execution.shuffle", "{storage: lake}", "goes with shuffle.uri only"},
		{"spec.execution.shuffle", "{place: store, uri: 'https://b/s/'}", "cannot be written by http"},
		{"spec.sink.format", "", "write sink.format"},
		{"spec.sink.storage", "lake", "sink.storage must be the name of one of"},
		{"spec.sink.uri", "https://b/out/", "cannot be written by http"},
		{"spec.sink.uri", "out/*/", "has a glob"},
		{"spec.sink", "{uri: q.parquet, mode: append}", "write several files"},
		{"spec.sink", "{uri: q.parquet, maxFileRows: 10}", "write several files"},
		{"spec.sink", "{uri: q.parquet, partitionBy: [y]}", "sink.partitionBy writes many files"},
		{"spec.sink.compressionLevel", "3", "needs sink.compression"},
		{"spec.sink", "{uri: out/, format: csv, compression: snappy}", "does not go with sink.format"},
		{"spec.sink", "{uri: out/, format: ipc, rowGroupSize: 10}", "sink.rowGroupSize goes with"},
		{"spec.sink", "{uri: out/, format: iceberg, overwrite: partitions}", "go with sink.mode: overwrite only"},
		{"spec.sink", "{uri: out/, format: delta, mode: append, overwriteWhere: 'a = 1'}", "go with sink.mode: overwrite only"},
		{"spec.sink", "{uri: out/, format: delta, mode: overwrite, overwrite: table, overwriteWhere: 'a = 1'}", "sink.overwrite or sink.overwriteWhere, not both"},
		{"spec.sink", "{uri: out/, format: parquet, schemaEvolution: merge}", "go with tables only"},
		{"spec.sink.csv", "{separator: ';'}", "sink.csv goes with sink.format: csv only"},
		{"spec.suspend", "true\nignored: 1", "unknown field spec.ignored"},
		{"spec.activeDeadlineSeconds", "99999999999", "less than or equal to 2147483647"},
	} {
		made := object(t, sound)
		if value, rest, found := strings.Cut(c[1], "\n"); found {
			set(t, made, c[0], value)
			key, value, _ := strings.Cut(rest, ": ")
			set(t, made, c[0][:strings.LastIndex(c[0], ".")+1]+key, value)
		} else {
			set(t, made, c[0], c[1])
		}
		if faults := s.admit(made, nil); !strings.Contains(faults, c[2]) {
			t.Errorf("%s: %s\nshould be refused by %q, but: %q", c[0], c[1], c[2], faults)
		}
	}
	both := with(t, sound, "spec.suspend", "true")
	set(t, both, "spec.cancel", "true")
	if faults := s.admit(both, nil); !strings.Contains(faults, "suspend and cancel exclude") {
		t.Error(faults)
	}
}

func TestWhatRunsCannotBeChangedButCanBeSteered(t *testing.T) {
	s := start(t)
	started := sound + "status: {phase: Running, startedAt: \"2026-11-21T08:00:00Z\"}\n"
	const refusal = "cannot change once the query has started"
	for _, change := range [][2]string{
		{"spec.plan.python.script", "\"result = scan('u')\""},
		{"spec.tables.t.uri", "s3://b/u/"},
		{"spec.tables", ""},
		{"spec.sink.uri", "s3://b/elsewhere/"},
		{"spec.sink", ""},
	} {
		old := object(t, started)
		s.admit(old, nil)
		if faults := s.admit(with(t, started, change[0], change[1]), old); !strings.Contains(faults, refusal) {
			t.Errorf("%s may change while it runs: %q", change[0], faults)
		}
		waiting := object(t, sound)
		s.admit(waiting, nil)
		if faults := s.admit(with(t, sound, change[0], change[1]), waiting); faults != "" {
			t.Errorf("%s cannot change while it waits: %s", change[0], faults)
		}
	}
	sql := strings.Replace(sound, "plan: {python: {script: \"result = scan('t')\"}}", "plan: {sql: select 1}", 1)
	old := with(t, sql+"status: {phase: Running, startedAt: \"2026-11-21T08:00:00Z\"}\n", "spec.views", "{v: select 1}")
	s.admit(old, nil)
	changed := with(t, sql+"status: {phase: Running, startedAt: \"2026-11-21T08:00:00Z\"}\n", "spec.views", "{v: select 2}")
	if faults := s.admit(changed, old); !strings.Contains(faults, "views "+refusal) {
		t.Errorf("views may change while it runs: %q", faults)
	}
	both := with(t, sql, "spec.views", "{t: select 1}")
	if faults := s.admit(both, nil); !strings.Contains(faults, "a view must not have the name of a table") {
		t.Errorf("a view and a table of one name: %q", faults)
	}
	for _, change := range [][2]string{
		{"spec.suspend", "true"},
		{"spec.cancel", "true"},
		{"spec.activeDeadlineSeconds", "60"},
		{"spec.compute.workers", "8"},
		{"status.phase", "Succeeded"},
		// Rules cannot see values of any type; the operator takes them once, at the start.
		{"spec.params", "{a: 1}"},
	} {
		old := object(t, started)
		s.admit(old, nil)
		if faults := s.admit(with(t, started, change[0], change[1]), old); faults != "" {
			t.Errorf("%s cannot be steered: %s", change[0], faults)
		}
	}
	for _, change := range [][2]string{{"a.b/c", "d.e/f"}, {"a.b/c", ""}, {"", "a.b/c"}} {
		old := with(t, sound, "spec.managedBy", change[0])
		s.admit(old, nil)
		if faults := s.admit(with(t, sound, "spec.managedBy", change[1]), old); !strings.Contains(faults, "managedBy can be neither added") {
			t.Errorf("managedBy %q becomes %q: %q", change[0], change[1], faults)
		}
		if faults := s.admit(with(t, sound, "spec.managedBy", change[0]), old); faults != "" {
			t.Errorf("managedBy %q stays: %s", change[0], faults)
		}
	}
}

func TestAQueryKeepsItsContext(t *testing.T) {
	s := start(t)
	for _, change := range [][2]string{{"{name: a}", "{name: b}"}, {"{name: a}", ""}, {"", "{name: a}"}} {
		old := with(t, sound, "spec.compute.contextRef", change[0])
		s.admit(old, nil)
		if faults := s.admit(with(t, sound, "spec.compute.contextRef", change[1]), old); !strings.Contains(faults, "contextRef can be neither added") {
			t.Errorf("contextRef %q becomes %q: %q", change[0], change[1], faults)
		}
		if faults := s.admit(with(t, sound, "spec.compute.contextRef", change[0]), old); faults != "" {
			t.Errorf("contextRef %q stays: %s", change[0], faults)
		}
	}
}

const warm = `
apiVersion: floe.dev/v1alpha1
kind: ComputeContext
metadata: {name: warm}
spec: {}
`

func TestContextsGetTheirDefaultsAndRules(t *testing.T) {
	s := startOf(t, "computecontexts")
	made := object(t, warm)
	if faults := s.admit(made, nil); faults != "" {
		t.Fatal(faults)
	}
	spec := made["spec"].(map[string]any)
	for path, pair := range map[string][2]any{
		"minWorkers":         {spec["minWorkers"], int64(1)},
		"maxWorkers":         {spec["maxWorkers"], int64(2)},
		"idleTimeoutSeconds": {spec["idleTimeoutSeconds"], int64(1800)},
		"maxQueriesAtOnce":   {spec["maxQueriesAtOnce"], int64(16)},
		"compute.memory":     {spec["compute"].(map[string]any)["memory"], "2Gi"},
	} {
		if pair[0] != pair[1] {
			t.Errorf("the default of %s is %v, not %v", path, pair[0], pair[1])
		}
	}
	for _, c := range [][3]string{
		{"metadata.name", "3q", "metadata.name names pods"},
		{"spec", "{minWorkers: 4, maxWorkers: 2}", "spec.minWorkers must not be above spec.maxWorkers"},
		{"spec", "{minWorkers: 3}", "spec.minWorkers must not be above spec.maxWorkers"},
		{"spec.maxWorkers", "0", "greater than or equal to 1"},
		{"spec.compute", "{workers: 4}", "write spec.minWorkers and spec.maxWorkers"},
		{"spec.compute", "{minWorkers: 1, maxWorkers: 4}", "write spec.minWorkers and spec.maxWorkers"},
		{"spec.compute", "{contextRef: {name: other}}", "a context has pods of its own"},
		{"spec.compute", "{memory: 1Mi}", "compute.memory must be at least 64Mi"},
		{"spec.idleTimeout", "4", "unknown field spec.idleTimeout"},
	} {
		if faults := s.admit(with(t, warm, c[0], c[1]), nil); !strings.Contains(faults, c[2]) {
			t.Errorf("%s: %s\nshould be refused by %q, but: %q", c[0], c[1], c[2], faults)
		}
	}
	// All of it may change at any time.
	old := object(t, warm)
	s.admit(old, nil)
	for _, change := range [][2]string{{"spec", "{maxWorkers: 8}"}, {"spec.compute", "{cpus: 4, memory: 8Gi, image: 'own:2'}"}} {
		if faults := s.admit(with(t, warm, change[0], change[1]), old); faults != "" {
			t.Errorf("%s: %s\n%s", change[0], change[1], faults)
		}
	}
}

const nightly = `
apiVersion: floe.dev/v1alpha1
kind: ScheduledQuery
metadata: {name: nightly}
spec:
  schedule: 30 2 * * *
  queryTemplate: {spec: {plan: {sql: SELECT 1 AS one}}}
`

func TestSchedulesGetTheirDefaultsAndRules(t *testing.T) {
	s := startOf(t, "scheduledqueries")
	made := object(t, nightly)
	if faults := s.admit(made, nil); faults != "" {
		t.Fatal(faults)
	}
	spec := made["spec"].(map[string]any)
	query := spec["queryTemplate"].(map[string]any)["spec"].(map[string]any)
	for path, pair := range map[string][2]any{
		"timeZone":                      {spec["timeZone"], "Etc/UTC"},
		"concurrencyPolicy":             {spec["concurrencyPolicy"], "Forbid"},
		"catchUp":                       {spec["catchUp"], "Latest"},
		"suspend":                       {spec["suspend"], false},
		"successfulQueriesHistoryLimit": {spec["successfulQueriesHistoryLimit"], int64(3)},
		"failedQueriesHistoryLimit":     {spec["failedQueriesHistoryLimit"], int64(1)},
		"compute.memory":                {query["compute"].(map[string]any)["memory"], "2Gi"},
	} {
		if pair[0] != pair[1] {
			t.Errorf("the default of %s is %v, not %v", path, pair[0], pair[1])
		}
	}
	for _, c := range [][3]string{
		{"metadata.name", "a-name-that-is-long-enough-for-a-query-but", "metadata.name names queries"},
		{"spec.schedule", "'30 2 * *'", "spec.schedule must have five fields"},
		{"spec.schedule", "'@every 5m'", "spec.schedule must have five fields"},
		{"spec.schedule", "'0 30 2 * * *'", "spec.schedule must have five fields"},
		{"spec.timeZone", "Local", "spec.timeZone must be the name of a time zone"},
		{"spec.timeZone", "'+01:00'", "spec.timeZone must be the name of a time zone"},
		{"spec.concurrencyPolicy", "Wait", "supported values"},
		{"spec.startingDeadlineSeconds", "0", "greater than or equal to 1"},
		{"spec.params", "{day: {type: day, value: 1}}", "supported values"},
		{"spec.queryTemplate.spec.cancel", "true", "spec.queryTemplate.spec.cancel would stop every query"},
		{"spec.queryTemplate.spec.plan", "{sql: SELECT 1, python: {script: result = 1}}", "write exactly one of plan.dsl"},
		{"spec.successfulJobsHistoryLimit", "3", "unknown field spec.successfulJobsHistoryLimit"},
	} {
		if faults := s.admit(with(t, nightly, c[0], c[1]), nil); !strings.Contains(faults, c[2]) {
			t.Errorf("%s: %s\nshould be refused by %q, but: %q", c[0], c[1], c[2], faults)
		}
	}
	both := object(t, nightly)
	both["spec"].(map[string]any)["concurrencyPolicy"] = "Replace"
	both["spec"].(map[string]any)["catchUp"] = "All"
	if faults := s.admit(both, nil); !strings.Contains(faults, "write catchUp: Latest") {
		t.Errorf("All with Replace: %q", faults)
	}
	typed := with(t, nightly, "spec.params", "{day: {value: '{{ .scheduledDate }}'}, rows: {type: int, value: 7}}")
	if faults := s.admit(typed, nil); faults != "" {
		t.Errorf("parameters: %q", faults)
	}
	// All of it may change at any time, what a query could not change among it.
	old := object(t, nightly)
	s.admit(old, nil)
	for _, change := range [][2]string{
		{"spec.schedule", "'@hourly'"},
		{"spec.timeZone", "America/Argentina/Buenos_Aires"},
		{"spec.suspend", "true"},
		{"spec.queryTemplate.spec.compute", "{contextRef: {name: warm}}"},
		{"spec.queryTemplate.spec.managedBy", "kueue.x-k8s.io/multikueue"},
		{"spec.queryTemplate.spec.plan", "{sql: SELECT 2 AS two}"},
	} {
		if faults := s.admit(with(t, nightly, change[0], change[1]), old); faults != "" {
			t.Errorf("%s: %s\n%s", change[0], change[1], faults)
		}
	}
}

func TestEveryExampleIsTaken(t *testing.T) {
	servers := map[string]*server{
		"DistributedQuery": start(t),
		"ComputeContext":   startOf(t, "computecontexts"),
		"ScheduledQuery":   startOf(t, "scheduledqueries"),
	}
	seen := 0
	must(t, filepath.WalkDir(filepath.Join(root, "examples"), func(path string, entry os.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".yaml" {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		seen++
		made := object(t, string(text))
		if faults := servers[made["kind"].(string)].admit(made, nil); faults != "" {
			t.Errorf("%s: %s", path, faults)
		}
		return nil
	}))
	if seen == 0 {
		t.Error("no examples")
	}
}
