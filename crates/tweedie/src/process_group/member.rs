//! Who a process is in its group, and where the group meets.

use std::net::TcpListener;
use std::time::Duration;

use super::c10d::{Result as Found, Store};
use crate::{Error, Result};

/// A process of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its number among all processes, from 0.
    pub rank: usize,
    /// How many there are.
    pub size: usize,
    /// Its number among those of its machine, from 0.
    pub local_rank: usize,
    /// The machine where they meet.
    pub host: String,
    /// The port where they meet.
    pub port: u16,
    /// Whether somebody else serves the store there, as `torchrun` does; otherwise rank 0 does.
    pub is_served: bool,
    /// The attempt of a launcher that starts a group anew, whose keys are kept apart.
    pub attempt: u64,
}

impl Default for Member {
    /// A process alone, on this machine, at PyTorch's usual port.
    fn default() -> Member {
        Member {
            rank: 0,
            size: 1,
            local_rank: 0,
            host: "127.0.0.1".into(),
            port: 29500,
            is_served: false,
            attempt: 0,
        }
    }
}

impl Member {
    /// Who this process is by its environment, as `torchrun` sets it: `RANK`, `WORLD_SIZE`,
    /// `LOCAL_RANK` (0 where it is missing), `MASTER_ADDR` and `MASTER_PORT`. None where
    /// `WORLD_SIZE` is not set, or 1.
    ///
    /// # Errors
    /// [`Error::Config`] with the variable that is missing or cannot be.
    pub fn of_environment() -> Result<Option<Member>> {
        Member::of(&|name| std::env::var(name).ok())
    }

    fn of(variable: &dyn Fn(&str) -> Option<String>) -> Result<Option<Member>> {
        let Some(size) = variable("WORLD_SIZE") else { return Ok(None) };
        let bad = |name: &str, problem: String| {
            let remedy = "start the processes with --processes or torchrun, or unset WORLD_SIZE";
            Error::config(name, problem, remedy)
        };
        let number = |name: &str, text: String| {
            text.trim().parse::<usize>().map_err(|_| bad(name, format!("{text:?} is no number")))
        };
        let size = number("WORLD_SIZE", size)?;
        if size <= 1 {
            return Ok(None);
        }
        let text = |name: &str| {
            variable(name).ok_or_else(|| bad(name, format!("not set, and WORLD_SIZE is {size}")))
        };
        let rank = number("RANK", text("RANK")?)?;
        if rank >= size {
            return Err(bad("RANK", format!("{rank}, and WORLD_SIZE is {size}")));
        }
        let local_rank = variable("LOCAL_RANK").map(|text| number("LOCAL_RANK", text));
        let port = text("MASTER_PORT")?;
        let port =
            port.trim().parse().map_err(|_| bad("MASTER_PORT", format!("{port:?} is no port")))?;
        let attempt = variable("TORCHELASTIC_RESTART_COUNT");
        Ok(Some(Member {
            rank,
            size,
            local_rank: local_rank.transpose()?.unwrap_or(0),
            host: text("MASTER_ADDR")?,
            port,
            is_served: variable("TORCHELASTIC_USE_AGENT_STORE").as_deref() == Some("True"),
            attempt: attempt.and_then(|text| text.parse().ok()).unwrap_or(0),
        }))
    }

    /// The environment that [`Member::of_environment`] reads.
    pub fn environment(&self) -> [(&'static str, String); 5] {
        [
            ("RANK", self.rank.to_string()),
            ("WORLD_SIZE", self.size.to_string()),
            ("LOCAL_RANK", self.local_rank.to_string()),
            ("MASTER_ADDR", self.host.clone()),
            ("MASTER_PORT", self.port.to_string()),
        ]
    }

    /// A port of this machine that nobody listens at.
    ///
    /// # Errors
    /// [`Error::Io`] if the machine has none.
    pub fn free_port() -> Result<u16> {
        let port = TcpListener::bind(("127.0.0.1", 0)).and_then(|at| at.local_addr());
        Ok(port.map_err(Error::io("127.0.0.1"))?.port())
    }

    /// The store of the group, served by this process where that is its part.
    pub(super) fn store(&self, timeout: Duration) -> Found<Store> {
        self.open(self.rank == 0 && !self.is_served, timeout)
    }

    /// Another connection to the store of the group.
    pub(super) fn client(&self, timeout: Duration) -> Found<Store> {
        self.open(false, timeout)
    }

    fn open(&self, serves: bool, timeout: Duration) -> Found<Store> {
        let prefix = format!("tweedie/{}", self.attempt);
        Store::open((&self.host, self.port), serves, self.size, timeout, &prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Option<Member>> {
        Member::of(&|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_string())
        })
    }

    #[test]
    fn a_launchers_environment_is_read() {
        assert_eq!(read(&[]).unwrap(), None);
        assert_eq!(read(&[("WORLD_SIZE", "1")]).unwrap(), None);
        let member = Member {
            rank: 3,
            size: 4,
            local_rank: 1,
            host: "node-0".into(),
            port: 1234,
            ..Member::default()
        };
        let environment = member.environment();
        let mut variables: Vec<(&str, &str)> =
            environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(read(&variables).unwrap().as_ref(), Some(&member));
        variables.push(("TORCHELASTIC_USE_AGENT_STORE", "True"));
        variables.push(("TORCHELASTIC_RESTART_COUNT", "2"));
        let of_launcher = Member { is_served: true, attempt: 2, ..member };
        assert_eq!(read(&variables).unwrap(), Some(of_launcher));
    }

    #[test]
    fn an_impossible_environment_is_refused_by_name() {
        let whole = [
            ("WORLD_SIZE", "2"),
            ("RANK", "1"),
            ("MASTER_ADDR", "127.0.0.1"),
            ("MASTER_PORT", "29500"),
        ];
        for (name, value) in
            [("WORLD_SIZE", "two"), ("RANK", "2"), ("RANK", "-1"), ("MASTER_PORT", "99999")]
        {
            let mut variables = whole;
            variables.iter_mut().filter(|(known, _)| *known == name).for_each(|v| v.1 = value);
            let error = read(&variables).unwrap_err();
            assert_eq!(error.option(), Some(name), "{error}");
        }
        for missing in ["RANK", "MASTER_ADDR", "MASTER_PORT"] {
            let variables: Vec<_> =
                whole.into_iter().filter(|(name, _)| *name != missing).collect();
            let error = read(&variables).unwrap_err();
            assert_eq!(error.option(), Some(missing), "{error}");
        }
    }
}
