//! Takes signals of workers and of the cluster scheduler into a driver, as events of its scheduler, and reports the
//! query's demand.

use std::collections::VecDeque;

use floe_api::report::WorkerState;
use floe_scheduler::Event;
use floe_wire::error::{Category, QueryError, TaskError};
use floe_wire::graph::{Exchange, StageId};
use tokio::sync::mpsc::UnboundedReceiver;

use super::admission::Granted;
use super::driver::Driver;
use super::registry::Signal;

impl Driver<'_> {
    /// Turns a signal into events.
    pub(super) fn on_signal(&mut self, signal: Signal, queue: &mut VecDeque<Event>) {
        self.changed = true;
        let event = match signal {
            Signal::WorkerUp { worker } => {
                (self.run.on_worker)(&worker, WorkerState::Up);
                // Slots are granted separately.
                Event::WorkerUp { worker, slots: 0 }
            }
            Signal::WorkerDraining { worker } => {
                (self.run.on_worker)(&worker, WorkerState::Draining);
                Event::WorkerDraining { worker }
            }
            Signal::WorkerLost { worker, out_of_memory } => {
                (self.run.on_worker)(&worker, WorkerState::Lost);
                self.hold.workers.remove(&worker);
                self.fragments.retain(|(holder, _)| *holder != worker);
                if out_of_memory {
                    // Retry nothing there, whichever of its tasks is reported first.
                    queue.push_back(Event::WorkerDraining { worker: worker.clone() });
                }
                let gone: Vec<_> = self.out.iter().filter(|(_, at)| **at == worker).map(|(id, _)| *id).collect();
                for (task, attempt) in gone {
                    self.out.remove(&(task, attempt));
                    if out_of_memory {
                        let message = format!("worker {worker} was killed while it was close to its memory limit");
                        let error = QueryError::new(Category::OutOfMemory, "OutOfMemory", message);
                        queue.push_back(Event::TaskFailed { task, attempt, worker: worker.clone(), error });
                    }
                }
                Event::WorkerLost { worker }
            }
            Signal::Started { worker, task, attempt } => Event::Started { task, attempt, worker },
            Signal::Progress { worker, task, attempt, rows, bytes } => {
                Event::Progress { task, attempt, worker, rows, bytes }
            }
            Signal::Done { worker, task, attempt, mut output } => {
                self.out.remove(&(task, attempt));
                self.warned.add(std::mem::take(&mut output.warnings));
                if self.exchanges(task.stage) {
                    self.shuffled += output.bytes;
                }
                Event::TaskDone { task, attempt, worker, output }
            }
            Signal::Failed { worker, task, attempt, error } => {
                self.out.remove(&(task, attempt));
                match error {
                    TaskError::Query(error) => Event::TaskFailed { task, attempt, worker, error },
                    TaskError::Lost { outputs, message } => {
                        tracing::info!(stage = task.stage.0, task = task.task, worker, "inputs are lost: {message}");
                        Event::InputsLost { task, attempt, worker, lost: outputs }
                    }
                }
            }
            Signal::Called => {
                self.demand_requested = true;
                return;
            }
            Signal::Gone { .. } => return,
        };
        queue.push_back(event);
    }

    /// Reports the demand to the cluster scheduler if it has changed; returns whether there are more events to process.
    pub(super) fn report_demand(&mut self, signals: &UnboundedReceiver<Signal>, queue: &mut VecDeque<Event>) -> bool {
        let demand = self.state.demand();
        if !self.demand_requested && self.reported_demand.as_ref() == Some(&demand) {
            return false;
        }
        let answer = self.run.registry.demand(&self.run.place.query, demand.clone(), || signals.is_empty());
        let Some(grants) = answer else { return true };
        self.reported_demand = Some(demand);
        self.demand_requested = false;
        let granted = |granted: Granted| {
            let Granted { worker, slots, whole } = granted;
            Event::Granted { worker, slots, whole }
        };
        queue.extend(grants.into_iter().map(granted));
        !queue.is_empty()
    }

    fn exchanges(&self, stage: StageId) -> bool {
        match self.run.graph.stages.get(stage.0 as usize).map(|stage| &stage.output) {
            Some(Exchange::Hash { .. } | Exchange::Range { .. } | Exchange::Whole) => true,
            Some(Exchange::Result | Exchange::Sink { .. }) | None => false,
        }
    }
}
