// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the controller answers with, and what it was asked. Pure.

use std::collections::{BTreeSet, HashMap};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::connection::Request;

/// The service's root, which everyone may read (DSP0266, 13.2).
pub const ROOT: &str = "/redfish/v1/";

/// Where sessions are made.
pub const SESSIONS: &str = "/redfish/v1/SessionService/Sessions";

/// The machine's chassis.
pub const CHASSIS: &str = "/redfish/v1/Chassis/1";

/// Its power, as controllers have told it since 2015.
pub const POWER: &str = "/redfish/v1/Chassis/1/Power";

/// Its power, as the schema of 2020 has it.
pub const ENVIRONMENT: &str = "/redfish/v1/Chassis/1/EnvironmentMetrics";

/// All chassis.
const ALL: &str = "/redfish/v1/Chassis";

/// Which resource tells the power.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Resource {
    /// `Power`.
    #[default]
    Power,
    /// `EnvironmentMetrics`.
    Environment,
}

/// A controller's state. The default has one chassis that draws 312 W, and makes sessions for
/// `user` with the password `secret`.
pub struct Script {
    /// Resources by path.
    pub tree: HashMap<String, Vec<u8>>,
    /// Who may log in.
    pub user: String,
    /// With what.
    pub password: String,
    /// Whether sessions are made; else 404.
    pub has_sessions: bool,
    /// The tokens that are good now.
    pub tokens: BTreeSet<String>,
    /// Whether every login is refused.
    pub refuses: bool,
    /// Whether it closes every connection without a word.
    pub is_away: bool,
    /// `METHOD path credential` of each request.
    pub asked: Vec<String>,
    resource: Resource,
}

/// An answer.
pub(crate) struct Reply {
    pub(crate) status: &'static str,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
}

impl Default for Script {
    fn default() -> Self {
        let mut script = Self {
            tree: HashMap::new(),
            user: "user".to_owned(),
            password: "secret".to_owned(),
            has_sessions: true,
            tokens: BTreeSet::new(),
            refuses: false,
            is_away: false,
            asked: Vec::new(),
            resource: Resource::default(),
        };
        script.put(
            ROOT,
            &json!({
                "@odata.type": "#ServiceRoot.v1_15_0.ServiceRoot",
                "Id": "RootService",
                "Name": "Root Service",
                "RedfishVersion": "1.15.0",
                "Chassis": {"@odata.id": ALL},
                "SessionService": {"@odata.id": "/redfish/v1/SessionService"},
                "Links": {"Sessions": {"@odata.id": SESSIONS}},
            }),
        );
        script.put(
            ALL,
            &json!({
                "@odata.type": "#ChassisCollection.ChassisCollection",
                "Name": "Chassis",
                "Members@odata.count": 1,
                "Members": [{"@odata.id": CHASSIS}],
            }),
        );
        script.tell_by(Resource::Power);
        script.tell_watts(312.0);
        script
    }
}

impl Script {
    /// Tells the power by this resource only; [`Script::tell_watts`] then says how much.
    pub fn tell_by(&mut self, resource: Resource) {
        self.resource = resource;
        for path in [POWER, ENVIRONMENT] {
            self.tree.remove(path);
        }
        let mut chassis = json!({
            "@odata.type": "#Chassis.v1_22_0.Chassis",
            "Id": "1",
            "Name": "Computer System Chassis",
            "ChassisType": "RackMount",
            "Links": {"ComputerSystems": [{"@odata.id": "/redfish/v1/Systems/1"}]},
        });
        let (link, path) = match resource {
            Resource::Power => ("Power", POWER),
            Resource::Environment => ("EnvironmentMetrics", ENVIRONMENT),
        };
        chassis[link] = json!({"@odata.id": path});
        self.put(CHASSIS, &chassis);
    }

    /// The power that it tells, in W.
    pub fn tell_watts(&mut self, watts: f64) {
        match self.resource {
            Resource::Power => self.put(
                POWER,
                &json!({
                    "@odata.type": "#Power.v1_7_1.Power",
                    "Id": "Power",
                    "Name": "Power",
                    "PowerControl": [{
                        "MemberId": "0",
                        "Name": "Server Power Control",
                        "PowerConsumedWatts": watts,
                    }],
                }),
            ),
            Resource::Environment => self.put(
                ENVIRONMENT,
                &json!({
                    "@odata.type": "#EnvironmentMetrics.v1_3_0.EnvironmentMetrics",
                    "Id": "EnvironmentMetrics",
                    "Name": "Environment Metrics",
                    "PowerWatts": {"Reading": watts},
                }),
            ),
        }
    }

    fn put(&mut self, path: &str, resource: &Value) {
        let mut resource = resource.clone();
        resource["@odata.id"] = json!(path);
        self.tree
            .insert(path.to_owned(), resource.to_string().into_bytes());
    }

    pub(crate) fn answer(&mut self, request: &Request) -> Reply {
        let Request {
            method,
            path,
            credential,
            ..
        } = request;
        let asked = format!("{method} {path} {credential}");
        self.asked.push(asked.trim().to_owned());
        match method.as_str() {
            "POST" if path == SESSIONS => self.log_in(&request.body),
            _ if path != ROOT && !self.knows(credential) => Reply::empty("401 Unauthorized"),
            "GET" => match self.tree.get(path) {
                Some(body) => Reply {
                    body: body.clone(),
                    ..Reply::empty("200 OK")
                },
                None => Reply::empty("404 Not Found"),
            },
            "DELETE" if path.starts_with("/redfish/v1/SessionService/Sessions/") => {
                self.tokens.remove(credential);
                Reply::empty("200 OK")
            }
            _ => Reply::empty("405 Method Not Allowed"),
        }
    }

    fn log_in(&mut self, body: &[u8]) -> Reply {
        if !self.has_sessions {
            return Reply::empty("404 Not Found");
        }
        let login: Value = serde_json::from_slice(body).unwrap_or_default();
        let is_right =
            login["UserName"] == self.user.as_str() && login["Password"] == self.password.as_str();
        if self.refuses || !is_right {
            return Reply::empty("401 Unauthorized");
        }
        let number = self.asked.len();
        let token = format!("token-{number}");
        self.tokens.insert(token.clone());
        Reply {
            headers: vec![
                ("X-Auth-Token", token),
                ("Location", format!("{SESSIONS}/{number}")),
            ],
            ..Reply::empty("201 Created")
        }
    }

    fn knows(&self, credential: &str) -> bool {
        let pair = format!("{}:{}", self.user, self.password);
        let is_password = credential
            .strip_prefix("Basic ")
            .is_some_and(|given| given == STANDARD.encode(pair));
        !self.refuses && (is_password || self.tokens.contains(credential))
    }
}

impl Reply {
    fn empty(status: &'static str) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: b"{}".to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(script: &mut Script, method: &str, path: &str, credential: &str, body: &str) -> Reply {
        script.answer(&Request {
            method: method.to_owned(),
            path: path.to_owned(),
            credential: credential.to_owned(),
            body: body.as_bytes().to_vec(),
        })
    }

    fn log_in(script: &mut Script, password: &str) -> Reply {
        let body = json!({"UserName": "user", "Password": password}).to_string();
        ask(script, "POST", SESSIONS, "", &body)
    }

    #[test]
    fn only_who_has_logged_in_is_told_more_than_the_root() {
        let mut script = Script::default();
        assert_eq!(ask(&mut script, "GET", ROOT, "", "").status, "200 OK");
        let stranger = ask(&mut script, "GET", POWER, "", "");
        assert_eq!(stranger.status, "401 Unauthorized");
        assert_eq!(log_in(&mut script, "guess").status, "401 Unauthorized");
        let token = log_in(&mut script, "secret").headers.remove(0).1;
        assert_eq!(ask(&mut script, "GET", POWER, &token, "").status, "200 OK");
        let place = format!("{SESSIONS}/1");
        ask(&mut script, "DELETE", &place, &token, "");
        let gone = ask(&mut script, "GET", POWER, &token, "");
        assert_eq!(gone.status, "401 Unauthorized");
    }

    #[test]
    fn the_chassis_leads_to_the_one_resource_that_tells() {
        let mut script = Script::default();
        script.tell_by(Resource::Environment);
        script.tell_watts(99.5);
        let at = |path: &str| -> Value {
            let bytes = script.tree.get(path).cloned().unwrap_or_default();
            serde_json::from_slice(&bytes).unwrap_or_default()
        };
        let chassis = at(CHASSIS);
        assert!(chassis["Power"].is_null());
        let way = chassis["EnvironmentMetrics"]["@odata.id"].as_str().unwrap();
        assert_eq!(at(way)["PowerWatts"]["Reading"], 99.5);
        assert!(at(POWER).is_null());
    }
}
