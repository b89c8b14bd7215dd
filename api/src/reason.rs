//! Why a query is in its state, from a bounded set: reasons of status, conditions, Events and metrics. Each has its
//! meaning and an advice, which docs/troubleshooting-cluster.md repeats.

use std::fmt;

macro_rules! reasons {
    ($($name:ident: $means:literal, $advice:literal;)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason { $($name),* }

        impl Reason {
            pub const ALL: &[Reason] = &[$(Reason::$name),*];

            pub fn as_str(self) -> &'static str {
                match self { $(Reason::$name => stringify!($name)),* }
            }

            /// What the reason means, for the documentation.
            pub fn means(self) -> &'static str {
                match self { $(Reason::$name => $means),* }
            }

            /// What to do, as the end of a message. Empty if there is nothing to do.
            pub fn advice(self) -> &'static str {
                match self { $(Reason::$name => $advice),* }
            }

            pub fn parse(text: &str) -> Option<Reason> {
                Reason::ALL.iter().copied().find(|reason| reason.as_str() == text)
            }
        }
    };
}

reasons! {
    // Progress.
    Accepted: "the spec is sound", "";
    Waiting: "this comes later", "";
    PodsStarting: "the pods are made and not yet all running", "";
    CoordinatorRunning: "the coordinator answers", "";
    WorkersConnected: "as many workers as the query needs are connected", "";
    Planned: "the plan is cut into stages", "";
    Completed: "the query succeeded", "";
    ResultExpired: "the query succeeded, and its result without a sink was removed after its time", "write a sink to keep results";
    Suspended: "spec.suspend holds the query", "set spec.suspend to false to run it";
    Cancelled: "spec.cancel or a client stopped the query", "";
    ScaledUp: "tasks wait: more workers are made", "";
    ScaledDown: "nothing needs some of the workers: they are drained and go", "";
    Changed: "spec.compute changed while the query runs; apart from the number of workers that holds from the next attempt on", "";
    MissingContext: "there is no ComputeContext of the name in spec.compute.contextRef", "create it in the query's namespace, or correct the name: the query starts by itself then";
    WaitingForQuery: "a query that spec.after names has not ended", "wait: the query starts by itself then";
    QueryBeforeFailed: "a query that spec.after names did not end as it has to", "mend that query and create both again, or set the condition to Ended";
    WaitingForAdmission: "Kueue has not admitted the query to its queue", "wait, or look at its Workload and queues (kubectl describe workload NAME-floe): the query starts by itself then";
    Admitted: "Kueue admitted the query", "";
    Preempted: "Kueue took the query's place back: its pods go, and it waits to be admitted again", "";
    NotQueued: "the query names a queue of Kueue, and this operator does not work with Kueue", "set kueue.enabled of Floe's chart, or take the label kueue.x-k8s.io/queue-name away";
    WaitingForShare: "as many queries or pods are at work as the operator's limits allow", "wait: the query starts by itself when it is its turn";
    ContextStarting: "the context that the query borrows is not ready to run it", "look at the context (kubectl describe cc): the query starts by itself then";
    ContextFull: "as many queries as the context takes run and wait there", "wait, or raise spec.maxQueriesAtOnce or spec.queue of the context";
    Idle: "the context has no workers until the next query", "";
    Changing: "a context's new image or sizes are being put in place", "";
    GivenBack: "the query's pods go, and it begins again when it is its turn", "";
    PodsKept: "pods stay for a look at their logs or for the result", "";
    Removed: "everything that the query made in the cluster is gone, its result apart", "";
    LeftBehind: "a coordinator ended without a word; what it staged outside of the cluster is removed at the end", "";
    CleanFailed: "unfinished output could not be removed", "look for hidden .floe files and unfinished multipart uploads below the sink and remove them";
    // Schedules.
    SuccessfulCreate: "a schedule made a query", "";
    SuccessfulDelete: "a schedule deleted a query that the next one replaces", "";
    SawCompletedQuery: "a query of a schedule has ended", "";
    MissingQuery: "a query of a schedule was deleted before it had ended", "";
    QueryAlreadyActive: "it is time for a query of a schedule, and another one has not ended", "wait, or set spec.concurrencyPolicy to Replace or Allow";
    MissSchedule: "times of a schedule passed without a query", "spec.catchUp and spec.startingDeadlineSeconds say which times get a query later";
    TooManyMissedTimes: "so many times of a schedule passed without a query that not all of them were looked at", "spec.catchUp and spec.startingDeadlineSeconds say which times get a query later";
    FailedCreate: "a query of a schedule could not be made", "mend what the message names: the operator tries again";
    UnparseableSchedule: "spec.schedule cannot be read", "write five fields (minute hour day month weekday), such as 30 2 * * *, or a word such as @daily";
    UnknownTimeZone: "spec.timeZone names no time zone", "write an IANA name, such as Europe/Berlin or Etc/UTC";
    // Faults that the user must fix; the query fails at once.
    BadSpec: "the object, or what Kubernetes makes of its pod template, is wrong", "correct the field that the message names";
    Unsupported: "the spec asks for something that is not built yet", "leave the field out";
    NotAllowed: "the policy of this cluster's Floe does not allow what the spec asks for", "change what the message names, or ask whoever runs Floe here";
    BadPlan: "Polars or Floe refused the plan", "correct the plan: the message is Polars' own where it has a Polars class";
    BadScript: "the Python script failed", "correct the script, or its time and memory limits in spec.plan.python";
    MissingData: "a file or directory that the query reads is not there", "check the URI, and that the storage's endpoint and region are right";
    AccessDenied: "a store refused the credentials", "check the keys in the Secret of spec.storage and their rights on that URI";
    SinkExists: "there is something at the sink already", "choose another sink.uri, or sink.mode overwrite or append";
    QueryFailed: "the plan failed on the data", "the message is Polars' own: correct the plan or the data";
    OutOfMemory: "a worker ran out of memory", "raise spec.compute.memory, or make tasks smaller by execution.partitionsPerWorker, execution.scanTaskBytes or a lower execution.broadcastLimit";
    CoordinatorOutOfMemory: "the coordinator ran out of memory", "raise spec.compute.coordinator.memory: plans that carry large frames, scripts and very many files need more";
    StorageFailed: "a store did not answer or answered wrongly, again and again", "look at the store; create the query again when it is well";
    Deadline: "activeDeadlineSeconds passed", "raise spec.activeDeadlineSeconds or give the query more workers";
    StartingDeadline: "the pods were not ready within startingDeadlineSeconds", "mend what the message names, or raise spec.startingDeadlineSeconds";
    // Conditions of the cluster; reported while they last, and the query continues once they are fixed.
    Unschedulable: "no node takes a pod", "ask for less cpus or memory, change nodeSelector, affinity or tolerations, or add nodes";
    ImagePull: "a node cannot get the image", "check spec.compute.image and imagePullSecrets";
    PodConfig: "the kubelet refuses to start a container as it is described", "correct spec.compute.env, envFrom, volumes or a pod template, or create what the message names";
    Volume: "a volume of a pod cannot be mounted", "check the claim, its storage class, spec.compute.volumes and those of pod templates";
    MissingSecret: "a Secret that the spec names is not there, or lacks a key", "create it in the query's namespace: the query starts by itself then";
    MissingConfigMap: "a ConfigMap that the spec names is not there, or lacks a key", "create it in the query's namespace: the query starts by itself then";
    Quota: "a ResourceQuota or LimitRange refuses a pod", "ask for less, free the quota or raise it: the query starts by itself then";
    PodSecurity: "Pod Security admission refuses a pod", "take out of the pod templates of spec.compute what the namespace's level forbids";
    Forbidden: "the API server refuses an object", "create what the message names, or give the operator the right";
    NameTaken: "an object of a name that the query needs is there and is not the query's", "remove or rename that object, or give the query another name";
    ClusterError: "the API server does not answer or answers with an error", "look at the API server: the operator tries again";
    Unreachable: "a pod of the query runs, and the operator cannot reach it", "let the operator's pods reach the query's pods at ports 7071 and 7072: look at NetworkPolicies, its namespace's egress among them";
    // Losses.
    Evicted: "a pod was evicted: pressure on its node, a drain, or a pod of higher priority", "free the node, or set compute.scratch.size, memory or priorityClassName";
    NodeLost: "the node of a pod is gone or does not answer", "look at the node";
    PodDeleted: "a pod was deleted from outside", "";
    WorkerLost: "a worker ended when it should not have", "look at its log while the query runs (kubectl logs POD), or keep its pod by keepFailedPodsSeconds";
    CoordinatorLost: "the coordinator ended without an outcome", "look at its log (keepFailedPodsSeconds keeps the pod)";
    BackoffLimit: "the infrastructure failed the query more often than backoffLimit allows", "raise spec.backoffLimit, or mend what the message names";
    Internal: "a fault of Floe's own", "please report it";
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

const TO_DO: &str = ". To do: ";

/// What happened, followed by what to do about it, if anything.
pub fn sentence(reason: Reason, what: &str) -> String {
    let what = what.trim().trim_end_matches('.');
    match reason.advice() {
        "" => what.to_owned(),
        // It quotes a message that already says what to do, closer to the cause.
        _ if what.contains(TO_DO) => what.to_owned(),
        advice => format!("{what}{TO_DO}{advice}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_do_is_said_once() {
        let inner = sentence(Reason::ImagePull, "no such image");
        assert!(inner.contains("To do: check spec.compute.image"), "{inner}");
        let outer = sentence(Reason::StartingDeadline, &format!("not ready within 5 s. Last seen: {inner}"));
        assert_eq!(outer.matches("To do").count(), 1, "{outer}");
        assert_eq!(sentence(Reason::Removed, "gone."), "gone");
    }

    #[test]
    fn every_reason_is_documented() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/troubleshooting-cluster.md");
        let page = std::fs::read_to_string(path).unwrap();
        for reason in Reason::ALL {
            let row = page.lines().find(|line| line.starts_with(&format!("| `{reason}` |")));
            let row = row.unwrap_or_else(|| panic!("{reason} has no row in docs/troubleshooting-cluster.md"));
            assert!(row.contains(reason.means()), "{reason}: {row}\nmust contain: {}", reason.means());
            assert!(row.contains(reason.advice()), "{reason}: {row}\nmust contain: {}", reason.advice());
            assert_eq!(Reason::parse(reason.as_str()), Some(*reason));
        }
    }
}
