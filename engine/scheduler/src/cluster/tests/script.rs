//! Scripts of events with the actions they must yield, as short texts: `a: 2 on w0`, `call b`.

use crate::Millis;
use crate::cluster::{Action, Claim, ClusterState, Demand, Event, Limits, Request, Running, decide};

use super::fair::{check_books, check_idle, check_lent, check_whole};

pub struct Script {
    pub state: ClusterState,
    pub now: Millis,
}

pub fn running(what: &[(&str, u32)]) -> Vec<Running> {
    what.iter().map(|(worker, tasks)| Running { worker: (*worker).to_owned(), tasks: *tasks, alone: false }).collect()
}

pub fn anywhere(tasks: u32) -> Vec<Request> {
    vec![Request { tasks, ..Request::default() }]
}

fn text(state: &ClusterState, action: &Action) -> String {
    match action {
        Action::Admit { query } => format!("admit {query}"),
        Action::Refuse { query, error } => format!("refuse {query} {}", error.class),
        Action::Grant { query, worker, slots, whole } => {
            let lease = state.queries[&state.query_index[query]].leases.get(&state.worker_index[worker]);
            let alone = lease.is_some_and(|lease| lease.whole);
            assert!(*whole || !alone, "{query} is not alone on {worker}");
            format!("{query}: {slots} on {worker}{}", if alone { " alone" } else { "" })
        }
        Action::Call { query } => format!("call {query}"),
    }
}

impl Script {
    /// With workers w0, w1, … that have these numbers of slots.
    pub fn new(workers: &[u32]) -> Self {
        Self::with(workers, Limits::default())
    }

    pub fn with(workers: &[u32], limits: Limits) -> Self {
        let mut script = Self { state: ClusterState::new(limits), now: 0 };
        for (at, slots) in workers.iter().enumerate() {
            script.up(&format!("w{at}"), *slots, 0);
        }
        script
    }

    pub fn tell(&mut self, event: Event) -> Vec<String> {
        let actions = decide(&mut self.state, event, self.now);
        check_books(&self.state);
        check_idle(&self.state);
        check_lent(&self.state);
        check_whole(&self.state);
        actions.iter().map(|action| text(&self.state, action)).collect()
    }

    #[track_caller]
    pub fn on(&mut self, event: Event, expected: &[&str]) -> &mut Self {
        let what = format!("{event:?}");
        assert_eq!(self.tell(event), expected, "after {what}");
        self
    }

    pub fn at(&mut self, now: Millis) -> &mut Self {
        self.now = now;
        self
    }

    pub fn up(&mut self, worker: &str, slots: u32, memory_bytes: u64) -> Vec<String> {
        self.tell(Event::WorkerUp { worker: worker.to_owned(), slots, memory_bytes })
    }

    /// Queries that arrive and are admitted.
    #[track_caller]
    pub fn queries(&mut self, queries: &[&str]) -> &mut Self {
        for query in queries {
            self.query(query, Claim::default());
        }
        self
    }

    #[track_caller]
    pub fn query(&mut self, query: &str, claim: Claim) -> &mut Self {
        self.on(Event::Arrived { query: query.to_owned(), claim }, &[&format!("admit {query}")])
    }

    /// A query runs this and requests `tasks` more tasks anywhere.
    #[track_caller]
    pub fn wants(&mut self, query: &str, runs: &[(&str, u32)], tasks: u32, expected: &[&str]) -> &mut Self {
        let demand = Demand { running: running(runs), requests: anywhere(tasks), ..Demand::default() };
        self.on(Event::Demand { query: query.to_owned(), demand }, expected)
    }

    #[track_caller]
    pub fn demands(&mut self, query: &str, demand: Demand, expected: &[&str]) -> &mut Self {
        self.on(Event::Demand { query: query.to_owned(), demand }, expected)
    }
}
