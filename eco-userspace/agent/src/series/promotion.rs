// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which processes are shown by name, tick by tick.

use crate::{
    core::Core,
    ledger::accounts::AccountId,
    series::{ProcessName, scrapers::Moment},
    workloads::homes::World,
};

/// A process takes another's place in the top only with this many times its power: so that two
/// alike do not take turns, each turn starting a series anew.
const RANK_LEAD: f32 = 2.0;

impl Core {
    /// Lets series come and go.
    pub(crate) fn move_series(&mut self) {
        let now = self.now();
        self.name_views(now);
        self.rename();
        self.books.advance(&self.scrapers, now);
        let accounts = &mut self.books.accounts;
        let (homes, jobs, job_idle) = (&self.homes, &self.jobs, &mut self.books.job_idle);
        let mut closed = Vec::new();
        self.books.views.advance(
            &self.scrapers,
            now,
            |view| homes.is_alive(view, jobs),
            |view| {
                accounts.close(view.account);
                job_idle.remove(&view.account);
                closed.push(view.clone());
            },
        );
        for view in &closed {
            self.homes.closed(view);
        }
        self.promote(now);
    }

    /// Shows what has a name by now.
    fn name_views(&mut self, now: Moment) {
        self.homes.settle(&mut World {
            usage: &self.usage,
            jobs: &self.jobs,
            books: &mut self.books,
            now,
        });
    }

    /// A process that goes by another name now (exec) is shown anew under it.
    fn rename(&mut self) {
        let now = self.now();
        let mut renamed = Vec::new();
        for series in self.books.board.iter() {
            let Some(account) = series.account else {
                continue;
            };
            let comm = self
                .slots
                .get(&account)
                .and_then(|slot| self.usage.process(*slot));
            if comm.is_some_and(|process| process.comm.text() != series.name.comm) {
                renamed.push(account);
            }
        }
        for account in renamed {
            self.books.board.leave(account, now);
        }
    }

    fn promote(&mut self, now: Moment) {
        let accounts = &self.books.accounts;
        let mut candidates: Vec<(f32, AccountId)> = accounts
            .touched()
            .iter()
            .filter(|account| self.slots.contains_key(account))
            .filter(|account| self.books.board.of(**account).is_none())
            .filter_map(|account| Some((accounts.get(*account)?.score, *account)))
            .filter(|(score, _)| *score > 0.0)
            .collect();
        candidates.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        for (score, account) in candidates {
            if !self.books.board.has_room() {
                let weakest = self.books.board.weakest(&self.books.accounts);
                let Some((least, loser)) = weakest else { break };
                if score <= RANK_LEAD * least {
                    break;
                }
                self.books.board.leave(loser, now);
                if !self.books.board.has_room() {
                    break;
                }
            }
            if let Some(name) = self.name_of(account) {
                let meters = self.meters.len();
                self.books.board.announce(name, account, meters, now);
            }
        }
    }

    fn name_of(&self, account: AccountId) -> Option<ProcessName> {
        let process = self.usage.process(*self.slots.get(&account)?)?;
        Some(ProcessName {
            comm: process.comm.text().into_owned(),
            pid: process.key.pid,
            start_ns: process.key.start_ns,
            start_unix: self.start_unix(process),
        })
    }
}
