// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Makes `src/zones.csv`, and prints it.
//!
//! Its input are the files `codecarbon/data/private_infra/global_energy_mix.json` and
//! `…/2023/usa_emissions.json` of a release of the Python package codecarbon, and
//! `databases/iso3166-1.json` of one of pycountry:
//!
//! ```sh
//! pip download --no-deps codecarbon pycountry   # two zip files
//! cargo run -p eco-intensity --example zone_table -- \
//!     global_energy_mix.json usa_emissions.json iso3166-1.json > zones.csv
//! ```
#![expect(clippy::print_stdout, reason = "the table is its output")]

use std::{collections::BTreeMap, env, error::Error, fs};

use serde::Deserialize;
use serde_json::Value;

/// Older rows say little of today.
const OLDEST_YEAR: u16 = 2020;

/// The source rounds generation to 0.01 TWh, so of less than this the ratio is off by more than
/// a few per cent (or 0, or 1000).
const LEAST_TWH: f64 = 0.2;

/// NIST Special Publication 811: a pound in grams.
const GRAMS_PER_POUND: f64 = 453.592_37;

const HEAD: &str = "\
# SPDX-License-Identifier: CC-BY-4.0
# Carbon intensity of electricity by zone and year. Made by the example zone_table of this crate
# from codecarbon 3.3.2 (MIT; its global_energy_mix.json and usa_emissions.json); not edited by
# hand.
# Countries: Ember, Yearly Electricity Data, with major processing by Our World in Data
# (https://ourworldindata.org/grapher/carbon-intensity-electricity), CC BY 4.0: lifecycle
# emissions of what is generated in the country, per kWh generated. Left out: countries that
# generate less than 0.2 TWh, for which the source's rounding is coarse, and years before 2020.
# States of the USA: EPA eGRID2023, annual CO2 equivalent total output emission rate, a work of
# the US government: direct emissions, converted from lb/MWh.
zone,alpha3,name,g_per_kwh,year,factors,source,licence";

#[derive(Deserialize)]
struct Country {
    country_name: String,
    carbon_intensity: Option<f64>,
    #[serde(rename = "total_TWh")]
    total_twh: Option<f64>,
    year: u16,
}

#[derive(Deserialize)]
struct Codes {
    #[serde(rename = "3166-1")]
    countries: Vec<Code>,
}

#[derive(Deserialize)]
struct Code {
    alpha_2: String,
    alpha_3: String,
}

fn main() -> Result<(), Box<dyn Error>> {
    let paths: Vec<String> = env::args().skip(1).collect();
    let [world, usa, codes] = &paths[..] else {
        return Err("give global_energy_mix.json, usa_emissions.json and iso3166-1.json".into());
    };
    let mut rows = BTreeMap::new();
    countries(world, codes, &mut rows)?;
    states(usa, &mut rows)?;
    println!("{HEAD}");
    for row in rows.values() {
        println!("{row}");
    }
    Ok(())
}

fn countries(
    world: &str,
    codes: &str,
    rows: &mut BTreeMap<String, String>,
) -> Result<(), Box<dyn Error>> {
    let world: BTreeMap<String, Country> = serde_json::from_str(&fs::read_to_string(world)?)?;
    let codes: Codes = serde_json::from_str(&fs::read_to_string(codes)?)?;
    for (alpha3, country) in world {
        let code = codes.countries.iter().find(|code| code.alpha_3 == alpha3);
        let large = country.total_twh.is_some_and(|twh| twh >= LEAST_TWH);
        let (Some(code), Some(value)) = (code, country.carbon_intensity) else {
            eprintln!("left out: {alpha3}: no ISO code, or no value");
            continue;
        };
        if !large || country.year < OLDEST_YEAR {
            eprintln!("left out: {alpha3}: too small, or of {}", country.year);
            continue;
        }
        let name = plain(&country.country_name);
        let row = format!(
            "{},{alpha3},{name},{value},{},lifecycle,Ember via Our World in Data,CC BY 4.0",
            code.alpha_2, country.year
        );
        rows.insert(code.alpha_2.clone(), row);
    }
    Ok(())
}

fn states(usa: &str, rows: &mut BTreeMap<String, String>) -> Result<(), Box<dyn Error>> {
    let usa: BTreeMap<String, Value> = serde_json::from_str(&fs::read_to_string(usa)?)?;
    let year = usa["_source"]["year"].as_u64().ok_or("no year")?;
    for (name, state) in &usa {
        let rate = state["emissions"].as_f64();
        // The whole country is in the other table, by the rules of that.
        let code = state["regionCode"].as_str().filter(|code| code.len() == 2);
        let (Some(rate), Some(code)) = (rate, code) else {
            eprintln!("left out: {name}: no state");
            continue;
        };
        let value = rate * GRAMS_PER_POUND / 1e3;
        let row = format!(
            "US-{code},,{},{value:.3},{year},direct,US EPA eGRID,public domain",
            title(&plain(name))
        );
        rows.insert(format!("US-{code}"), row);
    }
    Ok(())
}

/// No comma: it is what parts the fields.
fn plain(name: &str) -> String {
    name.replace(", ", " ").replace(',', " ")
}

/// `north dakota` as it is written.
fn title(name: &str) -> String {
    let words = name.split(' ').map(|word| match word {
        "of" => word.to_owned(),
        _ => word[..1].to_uppercase() + &word[1..],
    });
    words.collect::<Vec<_>>().join(" ")
}
