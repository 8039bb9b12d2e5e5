//! Modules and rules in force for probes, exchanged when the configuration is read again, and `/probe` by them.

use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::RwLock;

use tokio::sync::Semaphore;

use crate::api::deps::Later;
use crate::api::probe::Asked;
use crate::api::probe::Prober;
use crate::api::probe::Refused;
use crate::api::probe::Text;
use crate::config::probe::Probe;
use crate::probe::exposition;
use crate::probe::guard::Guard;
use crate::probe::module::Modules;
use crate::probe::run;
use crate::probe::run::Ask;

/// What is in force.
pub struct Probing(RwLock<Arc<InForce>>);

struct InForce {
    said: Probe,
    modules: Modules,
    guard: Guard,
    /// For probes at somebody's wish.
    turns: Semaphore,
}

impl InForce {
    fn new(said: &Probe) -> Arc<InForce> {
        let guard = Guard::new(said.ad_hoc.clone());
        let turns = Semaphore::new(said.ad_hoc.at_once);
        Arc::new(InForce { modules: Modules::new(&said.modules, said.strict), guard, turns, said: said.clone() })
    }
}

impl Probing {
    /// Of the configuration.
    pub fn new(said: &Probe) -> Probing {
        Probing(RwLock::new(InForce::new(said)))
    }

    /// Takes another configuration. True: it differs.
    pub fn reload(&self, said: &Probe) -> bool {
        let differs = self.in_force().said != *said;
        if differs {
            *self.0.write().unwrap_or_else(PoisonError::into_inner) = InForce::new(said);
        }
        differs
    }

    fn in_force(&self) -> Arc<InForce> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Prober for Probing {
    fn probe(&self, asked: Asked) -> Later<'_, Result<Text, Refused>> {
        let in_force = self.in_force();
        Box::pin(async move {
            if !in_force.guard.enabled() {
                return Err(Refused::Off);
            }
            let Some(module) = in_force.modules.get(&asked.module) else {
                return Err(Refused::NoModule(in_force.modules.names().map(str::to_owned).collect()));
            };
            if let (Some(asked), Some(said)) = (&asked.hostname, module.host())
                && asked != said
            {
                return Err(Refused::OtherHost(said.to_owned()));
            }
            // Nobody waits for a turn: whoever asked would have given up by then.
            let Ok(_turn) = in_force.turns.try_acquire() else { return Err(Refused::Busy(in_force.said.ad_hoc.at_once)) };
            let timeout = asked.patience.timeout(module.timeout, module.strict);
            let guard = Some(&in_force.guard);
            let hostname = asked.hostname.as_deref();
            let ask = Ask { hostname, guard, log: asked.debug, ..Ask::new(&asked.target, &module, timeout) };
            let outcome = run::probe(&ask).await;
            Ok(match asked.debug {
                true => ("text/plain; charset=utf-8", exposition::debug(&outcome, &module, &asked.target)),
                false => (exposition::CONTENT_TYPE, exposition::text(&outcome.metrics)),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::probe::Patience;

    #[tokio::test]
    async fn only_so_many_probes_are_under_way_at_once() {
        // Accepts by its backlog, and says nothing.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut said = Probe::default();
        said.ad_hoc.at_once = 1;
        let probing = Probing::new(&said);
        let asked = || Asked {
            target: format!("http://{}/", silent.local_addr().unwrap()),
            module: "http_2xx".to_owned(),
            hostname: None,
            debug: false,
            patience: Patience::default(),
        };
        let mut first = probing.probe(asked());
        let begun = std::future::poll_fn(|context| std::task::Poll::Ready(first.as_mut().poll(context).is_pending())).await;
        assert!(begun);
        assert_eq!(probing.probe(asked()).await.unwrap_err(), Refused::Busy(1));
        drop(first);
        assert!(probing.probe(Asked { target: "no target".to_owned(), ..asked() }).await.is_ok(), "a turn is given back");
    }
}
