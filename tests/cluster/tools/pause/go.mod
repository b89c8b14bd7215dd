module floe.dev/tests/cluster/tools/pause

go 1.25.0
