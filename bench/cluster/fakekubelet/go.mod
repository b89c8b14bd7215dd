module floe.dev/bench/cluster/fakekubelet

go 1.25.0
