// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where in a Redfish tree the machine's power is (DMTF DSP0268: Chassis, EnvironmentMetrics,
//! Power, PowerSubsystem, Sensor). Pure but for the `get` that it is given.

use serde_json::Value;

use super::client::Trouble;

/// Follows links: a path in, the resource out.
pub(super) type Get<'a> = &'a mut dyn FnMut(&str) -> Result<Value, Trouble>;

/// Above this no board draws: a slip of the unit.
const MOST_WATTS: f64 = 50_000.0;

/// A collection has at most so many members that are looked at.
const MOST_MEMBERS: usize = 64;

/// The way to a machine's power.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Gauge {
    /// `EnvironmentMetrics`.
    Environment(String),
    /// `Power`, deprecated since 2020 and the only one on many machines.
    Control(String),
    /// The metrics of each supply of a `PowerSubsystem`.
    Supplies(Vec<String>),
    /// A `Sensor` of the whole machine's power.
    Sensor(String),
}

/// What a gauge says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Told {
    pub(super) microwatts: u64,
    /// The controller's own count of energy, if it keeps one beside.
    pub(super) kilowatt_hours: Option<f64>,
}

impl Gauge {
    /// Reads it; `Ok(None)` where the resource holds no plausible power.
    pub(super) fn read(&self, get: Get<'_>) -> Result<Option<Told>, Trouble> {
        let mut kilowatt_hours = None;
        let watts = match self {
            Self::Environment(path) => {
                let metrics = get(path)?;
                kilowatt_hours = number(&metrics["EnergykWh"]["Reading"]);
                number(&metrics["PowerWatts"]["Reading"])
            }
            Self::Control(path) => consumed(&get(path)?),
            Self::Sensor(path) => sensor(&get(path)?),
            Self::Supplies(paths) => {
                let mut sum = None;
                for path in paths {
                    let watts = number(&get(path)?["InputPowerWatts"]["Reading"]);
                    // A supply without a cord tells nothing, and draws nothing.
                    if let Some(watts) = watts.filter(|watts| *watts >= 0.0) {
                        *sum.get_or_insert(0.0) += watts;
                    }
                }
                sum
            }
        };
        Ok(watts
            .filter(|watts| (1.0..=MOST_WATTS).contains(watts))
            .map(|watts| Told {
                microwatts: (watts * 1e6).round() as u64,
                kilowatt_hours,
            }))
    }
}

/// Looks for the machine's power from the service's root down. `Ok(None)`: it tells none. What
/// hindered the last way is an error only if no other leads there.
pub(super) fn find(get: Get<'_>) -> Result<Option<(Gauge, Told)>, Trouble> {
    let root = get(ROOT)?;
    let all = link(&root, "Chassis").ok_or(Trouble::Shape {
        path: ROOT.to_owned(),
        lacks: "a link to Chassis",
    })?;
    let mut chassis = Vec::new();
    for path in members(&get(&all)?) {
        let one = get(&path)?;
        if !is_part(&one) {
            chassis.push(one);
        }
    }
    // The enclosure that holds a computer, rather than a shelf or a switch beside it.
    chassis.sort_by_key(|one| one["Links"]["ComputerSystems"][0].is_null());
    let mut hindered = None;
    for one in &chassis {
        for way in order(&root) {
            let Some(gauge) = way.gauge(one, get)? else {
                continue;
            };
            match gauge.read(get) {
                Ok(Some(told)) => return Ok(Some((gauge, told))),
                Ok(None) => {}
                Err(trouble) if trouble.is_local() => hindered = Some(trouble),
                Err(trouble) => return Err(trouble),
            }
        }
    }
    hindered.map_or(Ok(None), Err)
}

/// The service's root.
pub(super) const ROOT: &str = "/redfish/v1/";

/// A kind of resource that may hold the power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Environment,
    Control,
    Supplies,
    Sensors,
}

/// What is tried, best first, where nothing else is known.
const USUAL: [Way; 4] = [Way::Environment, Way::Control, Way::Supplies, Way::Sensors];

/// Vendors whose controllers fill `Power` on all generations, and `EnvironmentMetrics` only on
/// some or more slowly: as the peers that read them all found (Kepler and Alumet read `Power`).
const POWER_FIRST: [&str; 6] = ["dell", "hpe", "lenovo", "supermicro", "fujitsu", "cisco"];

fn order(root: &Value) -> [Way; 4] {
    let named = root["Vendor"].as_str().map(str::to_lowercase);
    let oem = root["Oem"]
        .as_object()
        .into_iter()
        .flat_map(|oem| oem.keys());
    let vendors: Vec<String> = named
        .into_iter()
        .chain(oem.map(|key| key.to_lowercase()))
        .collect();
    let is_power_first = POWER_FIRST
        .iter()
        .any(|name| vendors.iter().any(|vendor| vendor.starts_with(name)));
    if is_power_first {
        [Way::Control, Way::Environment, Way::Supplies, Way::Sensors]
    } else {
        USUAL
    }
}

impl Way {
    fn gauge(self, chassis: &Value, get: Get<'_>) -> Result<Option<Gauge>, Trouble> {
        let found = self.look(chassis, get);
        match found {
            // A link to nowhere is this way's end, not the search's.
            Err(trouble) if trouble.is_local() => Ok(None),
            other => other,
        }
    }

    fn look(self, chassis: &Value, get: Get<'_>) -> Result<Option<Gauge>, Trouble> {
        Ok(match self {
            Self::Environment => link(chassis, "EnvironmentMetrics").map(Gauge::Environment),
            Self::Control => link(chassis, "Power").map(Gauge::Control),
            Self::Supplies => {
                let Some(subsystem) = link(chassis, "PowerSubsystem") else {
                    return Ok(None);
                };
                let Some(supplies) = link(&get(&subsystem)?, "PowerSupplies") else {
                    return Ok(None);
                };
                let mut metrics = Vec::new();
                for supply in members(&get(&supplies)?) {
                    metrics.extend(link(&get(&supply)?, "Metrics"));
                }
                (!metrics.is_empty()).then_some(Gauge::Supplies(metrics))
            }
            Self::Sensors => {
                let Some(sensors) = link(chassis, "Sensors") else {
                    return Ok(None);
                };
                let all = members(&get(&sensors)?);
                all.into_iter()
                    .find(|path| is_total(path))
                    .map(Gauge::Sensor)
            }
        })
    }
}

/// Parts of a machine have chassis of their own in some trees (each GPU of a DGX).
fn is_part(chassis: &Value) -> bool {
    const PARTS: [&str; 8] = [
        "Component",
        "Module",
        "Card",
        "Cartridge",
        "Zone",
        "StorageEnclosure",
        "Shelf",
        "Expansion",
    ];
    let kind = chassis["ChassisType"].as_str().unwrap_or_default();
    PARTS.contains(&kind)
}

/// The sensor's name on OpenBMC and its kin.
fn is_total(path: &str) -> bool {
    const NAMES: [&str; 5] = [
        "total_power",
        "power_total_power",
        "totalpower",
        "total_pwr",
        "sys_total_power",
    ];
    let id = path
        .trim_end_matches('/')
        .rsplit('/')
        .next()
        .unwrap_or_default();
    NAMES.contains(&id.to_lowercase().as_str())
}

/// Several entries: the machine's own comes first or is named so; the others are parts of it.
fn consumed(power: &Value) -> Option<f64> {
    const WHOLE: [&str; 5] = [
        "system power",
        "server power",
        "node power",
        "chassis power",
        "total",
    ];
    let entries = power["PowerControl"].as_array()?;
    let is_whole = |entry: &&Value| {
        let name = entry["Name"].as_str().unwrap_or_default().to_lowercase();
        WHOLE.iter().any(|whole| name.contains(whole)) && !name.contains("sub")
    };
    let entry = entries.iter().find(is_whole).or_else(|| entries.first())?;
    number(&entry["PowerConsumedWatts"])
}

fn sensor(sensor: &Value) -> Option<f64> {
    let is_power = sensor["ReadingType"]
        .as_str()
        .is_none_or(|kind| kind == "Power");
    let is_watts = sensor["ReadingUnits"]
        .as_str()
        .is_none_or(|unit| unit == "W");
    number(&sensor["Reading"]).filter(|_| is_power && is_watts)
}

/// A number, which some controllers write as a string.
fn number(value: &Value) -> Option<f64> {
    let number = match value {
        Value::String(text) => text.trim().parse().ok(),
        other => other.as_f64(),
    };
    number.filter(|number: &f64| number.is_finite())
}

fn link(resource: &Value, name: &str) -> Option<String> {
    resource[name]["@odata.id"].as_str().map(str::to_owned)
}

fn members(collection: &Value) -> Vec<String> {
    let members = collection["Members"].as_array().into_iter().flatten();
    members
        .filter_map(|member| member["@odata.id"].as_str().map(str::to_owned))
        .take(MOST_MEMBERS)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn tree(resources: &[(&str, Value)]) -> HashMap<String, Value> {
        let mut tree: HashMap<String, Value> = resources
            .iter()
            .map(|(path, value)| ((*path).to_owned(), value.clone()))
            .collect();
        tree.entry("/redfish/v1/".into())
            .or_insert(json!({"Chassis": {"@odata.id": "/c"}}));
        tree.entry("/c".into())
            .or_insert(json!({"Members": [{"@odata.id": "/c/1"}]}));
        tree
    }

    fn watts_in(tree: &HashMap<String, Value>) -> Option<f64> {
        let mut get = |path: &str| {
            tree.get(path).cloned().ok_or(Trouble::Status {
                path: path.into(),
                status: 404,
            })
        };
        let (gauge, told) = find(&mut get).ok()??;
        assert_eq!(gauge.read(&mut get).unwrap(), Some(told));
        Some(told.microwatts as f64 / 1e6)
    }

    #[test]
    fn each_way_to_the_power_is_found() {
        let chassis = |name: &str| ("/c/1", json!({name: {"@odata.id": "/p"}}));
        let environment = json!({"PowerWatts": {"Reading": 312.5}, "EnergykWh": {"Reading": 7}});
        assert_eq!(
            watts_in(&tree(&[chassis("EnvironmentMetrics"), ("/p", environment)])),
            Some(312.5)
        );
        let control = json!({"PowerControl": [{"PowerConsumedWatts": 344}]});
        assert_eq!(
            watts_in(&tree(&[chassis("Power"), ("/p", control)])),
            Some(344.0)
        );
        let supplies = tree(&[
            chassis("PowerSubsystem"),
            ("/p", json!({"PowerSupplies": {"@odata.id": "/p/s"}})),
            (
                "/p/s",
                json!({"Members": [{"@odata.id": "/s/0"}, {"@odata.id": "/s/1"}]}),
            ),
            ("/s/0", json!({"Metrics": {"@odata.id": "/s/0/m"}})),
            ("/s/1", json!({"Metrics": {"@odata.id": "/s/1/m"}})),
            ("/s/0/m", json!({"InputPowerWatts": {"Reading": 200}})),
            ("/s/1/m", json!({"InputPowerWatts": {"Reading": null}})),
        ]);
        assert_eq!(watts_in(&supplies), Some(200.0));
        let sensors = tree(&[
            chassis("Sensors"),
            (
                "/p",
                json!({"Members": [{"@odata.id": "/p/temp"}, {"@odata.id": "/p/total_power"}]}),
            ),
            (
                "/p/total_power",
                json!({"ReadingType": "Power", "ReadingUnits": "W", "Reading": 99}),
            ),
        ]);
        assert_eq!(watts_in(&sensors), Some(99.0));
    }

    #[test]
    fn a_vendors_parts_are_not_added_to_the_whole() {
        let lenovo = json!({"PowerControl": [
            {"Name": "CPU Sub-system Power", "PowerConsumedWatts": 120},
            {"Name": "Server Power Control", "PowerConsumedWatts": 305},
            {"Name": "Memory Sub-system Power", "PowerConsumedWatts": 30},
        ]});
        assert_eq!(consumed(&lenovo), Some(305.0));
        let ami = json!({"PowerControl": [{"PowerConsumedWatts": "231"}]});
        assert_eq!(consumed(&ami), Some(231.0));
    }

    #[test]
    fn a_dell_is_asked_for_power_first() {
        let both = [
            (
                "/redfish/v1/",
                json!({"Vendor": "Dell", "Chassis": {"@odata.id": "/c"}}),
            ),
            (
                "/c/1",
                json!({"EnvironmentMetrics": {"@odata.id": "/e"}, "Power": {"@odata.id": "/p"}}),
            ),
            ("/e", json!({"PowerWatts": {"Reading": 100}})),
            ("/p", json!({"PowerControl": [{"PowerConsumedWatts": 200}]})),
        ];
        assert_eq!(watts_in(&tree(&both)), Some(200.0));
        assert_eq!(watts_in(&tree(&both[1..])), Some(100.0));
    }

    #[test]
    fn the_chassis_of_the_computer_is_chosen_and_its_parts_are_not() {
        let metrics = |path: &str| json!({"EnvironmentMetrics": {"@odata.id": path}});
        let mut gpu = metrics("/g");
        gpu["ChassisType"] = json!("Module");
        let mut machine = metrics("/m");
        machine["Links"] = json!({"ComputerSystems": [{"@odata.id": "/s"}]});
        let paths = ["/c/gpu", "/c/shelf", "/c/box"].map(|path| json!({"@odata.id": path}));
        let paths = json!({"Members": paths});
        let tree = tree(&[
            ("/c", paths),
            ("/c/gpu", gpu),
            ("/c/shelf", metrics("/f")),
            ("/c/box", machine),
            ("/g", json!({"PowerWatts": {"Reading": 700}})),
            ("/f", json!({"PowerWatts": {"Reading": 40}})),
            ("/m", json!({"PowerWatts": {"Reading": 5_600}})),
        ]);
        assert_eq!(watts_in(&tree), Some(5_600.0));
    }

    #[test]
    fn wrong_shapes_and_zero_watts_are_no_power() {
        let with = |metrics: Value| {
            let chassis = json!({"EnvironmentMetrics": {"@odata.id": "/e"}});
            watts_in(&tree(&[("/c/1", chassis), ("/e", metrics)]))
        };
        for reading in [
            json!(0),
            json!(-5),
            json!(1e9),
            json!("NaN"),
            json!([]),
            json!(null),
        ] {
            assert_eq!(with(json!({"PowerWatts": {"Reading": reading}})), None);
        }
        for metrics in [
            json!(null),
            json!([1]),
            json!("x"),
            json!({"PowerWatts": 100}),
        ] {
            assert_eq!(with(metrics), None);
        }
        for root in [json!(null), json!({"Chassis": "/c"}), json!([])] {
            assert_eq!(watts_in(&tree(&[("/redfish/v1/", root)])), None);
        }
    }

    proptest! {
        #[test]
        fn no_number_leads_to_an_implausible_power(reading: f64) {
            let gauge = Gauge::Environment("/e".into());
            let mut get = |_: &str| Ok(json!({"PowerWatts": {"Reading": reading}}));
            if let Some(told) = gauge.read(&mut get).unwrap() {
                prop_assert!((1_000_000..=50_000_000_000).contains(&told.microwatts));
            }
        }
    }
}
