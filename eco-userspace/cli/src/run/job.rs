// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Who measures the job: the node's agent, a private one, or eco itself.

use std::{env, ffi::CStr, io, path::Path};

use eco_agent::api::JobRequest;
use eco_usage::reaper::Reaper;

use super::{
    Measure,
    account::{Measured, MeasuredBy},
    cgroup::JobCgroup,
    launcher::Launch,
    plain::PlainMeters,
    supervise::Ended,
};
use crate::{
    client::{Client, ClientError},
    exit::Failure,
    private_agent::{self, PrivateAgent},
    signals::Signals,
};

/// An open job.
pub(crate) struct Job {
    session: Option<Session>,
    cgroup: Option<JobCgroup>,
    name: String,
    launch: Launch,
    notes: Vec<String>,
}

/// A job that an agent follows.
struct Session {
    client: Client,
    id: String,
    /// The job's own span, if one is sent.
    traceparent: Option<String>,
    private: Option<PrivateAgent>,
}

impl Job {
    /// Opens the job with whoever may measure it. From here on its descendants count.
    pub(crate) fn open(
        socket: &Path,
        measure: Measure,
        name: &str,
        launch: Launch,
        reaper: &mut Reaper,
        signals: &Signals,
    ) -> Result<Self, Failure> {
        let mut job = Self {
            session: None,
            cgroup: None,
            name: name.to_owned(),
            notes: launch.note.map(str::to_owned).into_iter().collect(),
            launch,
        };
        if matches!(measure, Measure::Auto | Measure::Agent) {
            match Client::new(socket).map(|client| job.open_with(client, None)) {
                Ok(Ok(())) => return Ok(job),
                Ok(Err(error)) if measure == Measure::Agent => return Err(error.into()),
                // That none runs is the usual case; anything else is worth a note.
                Ok(Err(ClientError::NoAgent(_))) => {}
                Ok(Err(error)) => job.notes.push(error.to_string()),
                Err(failure) => return Err(failure),
            }
        }
        if measure == Measure::Private || measure == Measure::Auto && private_agent::counts_all() {
            match job.open_private(reaper, signals) {
                Ok(()) => return Ok(job),
                Err(why) if measure == Measure::Private => return Err(Failure::absent(why)),
                Err(why) => job.notes.push(why),
            }
        }
        Ok(job)
    }

    /// Whether an agent follows the job.
    pub(crate) fn has_agent(&self) -> bool {
        self.session.is_some()
    }

    /// `cgroup.procs` of the job's cgroup, if it has one.
    pub(crate) fn cgroup_procs(&self) -> Option<&CStr> {
        self.cgroup.as_ref().map(JobCgroup::procs)
    }

    /// The job's own span as `TRACEPARENT`, if somebody sends it. If nobody does, what the command
    /// starts is a part of what eco itself was started in.
    pub(crate) fn traceparent(&self) -> Option<&str> {
        self.session.as_ref()?.traceparent.as_deref()
    }

    /// The job's cgroup, if it has one.
    pub(crate) fn cgroup(&self) -> Option<&JobCgroup> {
        self.cgroup.as_ref()
    }

    /// Opens the job anew by descent, because the kernel refused its cgroup.
    pub(crate) fn leave_cgroup(&mut self, reaper: &mut Reaper, error: &io::Error) {
        self.notes
            .push(format!("the job has no cgroup of its own: {error}"));
        self.remove_cgroup();
        let Some(mut session) = self.session.take() else {
            return;
        };
        let _ = session.client.close_job(&session.id);
        match session.client.open_job(&self.by_descent()) {
            Ok(opened) => {
                session.id = opened.id;
                session.traceparent = opened.traceparent;
                self.session = Some(session);
            }
            Err(error) => {
                self.notes.push(error.to_string());
                if let Some(private) = session.private {
                    reaper.forget(private.pid());
                }
            }
        }
    }

    /// Hears that a child that is none of the job's has ended: if it is the private agent, the
    /// run goes on without it.
    pub(crate) fn stranger_ended(&mut self, pid: i32) {
        let Some(session) = &mut self.session else {
            return;
        };
        if let Some(private) = session
            .private
            .as_mut()
            .filter(|private| private.pid() == pid)
        {
            private.set_reaped();
            let log = private.last_words();
            self.notes
                .push(format!("the private agent ended before the job{log}"));
            self.session = None;
        }
    }

    /// Gives the job up before its command has run.
    pub(crate) fn abandon(mut self) {
        if let Some(session) = self.session.take() {
            // Whether that works or not: an agent drops a job whose processes are gone.
            let _ = session.client.close_job(&session.id);
        }
        self.remove_cgroup();
    }

    /// Closes the job, and tells what it used.
    pub(crate) fn close(
        mut self,
        reaper: &mut Reaper,
        meters: &PlainMeters,
        ended: &Ended,
    ) -> Measured {
        let seen = self.session.take().and_then(|session| {
            let by = match session.private {
                Some(_) => MeasuredBy::PrivateAgent,
                None => MeasuredBy::Agent,
            };
            match session.client.close_job(&session.id) {
                Ok(job) => Some((by, job)),
                Err(error) => {
                    self.notes
                        .push(format!("{error}; this is what eco itself saw"));
                    None
                }
            }
        });
        self.remove_cgroup();
        let mut measured = match seen {
            Some((by, job)) => Measured::from_agent(by, job, ended.job_cpu),
            None => Measured::plain(ended.job_cpu, reaper.dead_count() + ended.left, meters),
        };
        measured.set_launch(&self.launch);
        measured.notes.append(&mut self.notes);
        measured
    }

    fn open_private(&mut self, reaper: &mut Reaper, signals: &Signals) -> Result<(), String> {
        // One that reads procfs would lose what eco itself does not: short-lived processes.
        if !private_agent::counts_all() {
            return Err("a private agent needs root, or CAP_BPF and CAP_PERFMON".to_owned());
        }
        let (agent, client) = PrivateAgent::start(&signals.before())?;
        reaper.set_apart(agent.pid());
        self.open_with(client, Some(agent))
            .map_err(|error| error.to_string())
    }

    /// Opens the job with an agent: by a cgroup if that can be had, else by descent.
    fn open_with(
        &mut self,
        client: Client,
        private: Option<PrivateAgent>,
    ) -> Result<(), ClientError> {
        let opened = match JobCgroup::create() {
            Ok(cgroup) => {
                let request = JobRequest {
                    cgroup: Some(cgroup.path().to_owned()),
                    ..self.request()
                };
                let opened = client.open_job(&request);
                self.cgroup = Some(cgroup);
                opened
            }
            Err(_) => client.open_job(&self.by_descent()),
        };
        let opened = match opened {
            // An agent in another cgroup namespace knows our cgroup by another path.
            Err(ClientError::Refused { .. }) if self.cgroup.is_some() => {
                self.remove_cgroup();
                client.open_job(&self.by_descent())
            }
            other => other,
        };
        match opened {
            Ok(job) => {
                self.session = Some(Session {
                    client,
                    id: job.id,
                    traceparent: job.traceparent,
                    private,
                });
                Ok(())
            }
            Err(error) => {
                self.remove_cgroup();
                Err(error)
            }
        }
    }

    /// A job of everything that descends from this process from now on. No process id: the
    /// agent asks the kernel who is calling, and that is right in any pid namespace.
    fn by_descent(&self) -> JobRequest {
        JobRequest {
            exclude_root: true,
            ..self.request()
        }
    }

    fn request(&self) -> JobRequest {
        JobRequest {
            name: Some(self.name.clone()),
            job: self.launch.job.clone(),
            by_launcher: !self.launch.is_chosen,
            rank: self.launch.rank,
            traceparent: env::var("TRACEPARENT").ok(),
            ..JobRequest::default()
        }
    }

    fn remove_cgroup(&mut self) {
        if let Some(cgroup) = self.cgroup.take() {
            let path = cgroup.path().to_owned();
            if let Err(error) = cgroup.remove() {
                self.notes
                    .push(format!("cgroup {path} could not be removed: {error}"));
            }
        }
    }
}
