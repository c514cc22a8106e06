//! A density on a thread of its own, which waits for work.
//!
//! A model stays on the thread that made it, whichever thread of Python's calls. The caller waits
//! without the interpreter's lock, passes on what is said, and looks for Ctrl-C.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use tweedie::density::Density;

use crate::errors::{exception, internal};
use crate::report::{Reporter, Said};

/// Between two looks for Ctrl-C.
const LOOK: Duration = Duration::from_millis(100);

type Job = Box<dyn FnOnce(&mut Option<Density>) + Send>;

/// A thread with a density, once a job has put one there.
pub struct Worker {
    jobs: Mutex<Sender<Job>>,
    /// The process that has the thread.
    process: u32,
}

enum Event<T> {
    Said(Said),
    Done(std::thread::Result<tweedie::Result<T>>),
}

impl<T> From<Said> for Event<T> {
    fn from(said: Said) -> Event<T> {
        Event::Said(said)
    }
}

impl Worker {
    pub fn new() -> Worker {
        let (jobs, waiting) = channel::<Job>();
        std::thread::Builder::new()
            .name("tweedie".into())
            .spawn(move || {
                let mut density = None;
                for job in waiting {
                    job(&mut density);
                }
            })
            .expect("the system has a thread");
        Worker { jobs: Mutex::new(jobs), process: std::process::id() }
    }

    /// Whether the thread is one of this process, and not of the one that it was forked from.
    pub fn is_here(&self) -> bool {
        self.process == std::process::id()
    }

    /// What `work` returns, done on the thread. `callback` is called with every event, a dictionary.
    pub fn call<T: Send + 'static>(
        &self,
        py: Python<'_>,
        callback: Option<&Bound<'_, PyAny>>,
        work: impl FnOnce(&mut Option<Density>, &mut Reporter) -> tweedie::Result<T> + Send + 'static,
    ) -> PyResult<T> {
        let (events, incoming) = channel::<Event<T>>();
        let (stop, incoming) = (Arc::new(AtomicBool::new(false)), Mutex::new(incoming));
        let asked = stop.clone();
        let job: Job = Box::new(move |density| {
            let mut reporter = Reporter::new(events.clone(), asked);
            let done = catch_unwind(AssertUnwindSafe(|| work(density, &mut reporter)));
            // whoever asked may be gone
            let _ = events.send(Event::Done(done));
        });
        let sent = py.detach(|| self.jobs.lock().expect("no thread ends in it").send(job));
        sent.map_err(|_| ended())?;
        let mut raised: Option<PyErr> = None;
        let done = loop {
            let event = py.detach(|| next(&incoming));
            let heard = match event {
                Ok(Event::Done(done)) => break done,
                Ok(Event::Said(said)) => match (callback, &raised) {
                    (Some(callback), None) => tell(callback, said),
                    _ => Ok(()),
                },
                Err(RecvTimeoutError::Timeout) => Ok(()),
                Err(RecvTimeoutError::Disconnected) => return Err(ended()),
            };
            if let Err(error) = heard.and_then(|()| py.check_signals()) {
                stop.store(true, Ordering::Relaxed);
                raised.get_or_insert(error);
            }
        };
        match (raised, done) {
            (Some(error), _) => Err(error),
            (None, Ok(result)) => result.map_err(exception),
            (None, Err(panic)) => Err(internal(&*panic)),
        }
    }
}

fn next<T>(incoming: &Mutex<Receiver<Event<T>>>) -> Result<Event<T>, RecvTimeoutError> {
    incoming.lock().expect("one thread waits").recv_timeout(LOOK)
}

fn ended() -> PyErr {
    PyRuntimeError::new_err("internal: the thread of the model has ended; load the model again")
}

/// Calls `callback` with what is said.
fn tell(callback: &Bound<'_, PyAny>, said: Said) -> PyResult<()> {
    let event = PyDict::new(callback.py());
    match said {
        Said::Begin(what, of) => {
            event.set_item("kind", "begin")?;
            event.set_item("what", what)?;
            event.set_item("of", of)?;
        }
        Said::Progress(done, of) => {
            event.set_item("kind", "progress")?;
            event.set_item("done", done)?;
            event.set_item("of", of)?;
        }
        Said::Note(text) => {
            event.set_item("kind", "figure")?;
            event.set_item("text", text)?;
        }
        Said::End => event.set_item("kind", "end")?,
        Said::Remark(kind, text) => {
            event.set_item("kind", "remark")?;
            event.set_item("level", kind)?;
            event.set_item("text", text)?;
        }
    }
    callback.call1((event,)).map(drop)
}
