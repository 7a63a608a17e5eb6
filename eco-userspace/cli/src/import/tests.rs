// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `samples/` holds what the tools themselves wrote, in November 2026: CodeCarbon 3.3.2, eco2AI
//! 0.3.12, CarbonTracker 2.4.7. Older generations are as their repositories have them.

use std::fs;

use eco_history::{file, run as kept};
use eco_meter::Domain;

use super::*;

const LOG: &str = "24597.886813_2026-11-25T170236Z_carbontracker.log";
const OUTPUT: &str = "24597.886813_2026-11-25T170236Z_carbontracker_output.log";

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src/import/samples")
        .join(name)
}

fn parse_text(name: &str, text: &str) -> Result<Parsed, ImportError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, text).unwrap();
    parse(&path, None, &TimeZone::UTC)
}

fn joules(uj: u64) -> f64 {
    uj as f64 / 1e6
}

#[test]
fn codecarbons_own_file_is_read_as_it_wrote_it() {
    let parsed = parse(&sample("emissions.csv"), None, &TimeZone::UTC).unwrap();
    assert_eq!((&parsed.refused, &parsed.remarks), (&vec![], &vec![]));
    let [first, second] = parsed.runs.as_slice() else {
        panic!("{parsed:?}");
    };
    assert_eq!(first.name, "train, \"A\"");
    assert_eq!(first.tool_version.as_deref(), Some("3.3.2"));
    assert_eq!(first.key, "aa47d331-e442-4618-93c1-edcae6885aad");
    assert_ne!(first.key, second.key);
    // 2.3588543e-05 kWh, 8.986055e-06 kg, 3.0417 s until 17:02:21.
    assert_eq!(first.energy_uj, 84_918_755);
    assert_eq!(first.carbon_ng, Some(8_986_055));
    assert_eq!((first.ended_ms, first.span_ms()), (1_795_626_141_000, 3042));
    let sum: u64 = first.parts.iter().map(|(_, uj)| uj).sum();
    assert!(sum.abs_diff(first.energy_uj) <= 2);
    assert!(
        first
            .parts
            .iter()
            .any(|(domain, uj)| *domain == Domain::Dram && *uj > 0)
    );
    assert_eq!(
        (first.hardware.cpu.as_str(), first.hardware.cpus),
        ("AMD EPYC", 2)
    );
    assert_eq!(first.hardware.memory_bytes >> 30, 23);
}

#[test]
fn the_columns_of_earlier_codecarbons_are_enough() {
    let of_2020 = "timestamp,experiment_id,project_name,duration,emissions,energy_consumed,\
        country_name,country_iso_code,region,on_cloud,cloud_provider,cloud_region\n\
        2020-03-24T15:26:11,9288b395,delta,16,1,3,Taiwan,TWN,Changhua,Y,gcp,asia-east1\n\
        2020-03-24T15:26:11,9288b395,delta,16,1,4,Taiwan,TWN,Changhua,Y,gcp,asia-east1\n\
        2020-04-31T03:26:11,042a0aca,beta,49,2,3,Canada,CAN,Ontario,N,,\n";
    let parsed = parse_text("x.csv", of_2020).unwrap();
    assert_eq!(
        parsed.runs.len(),
        2,
        "an experiment has many runs: {parsed:?}"
    );
    assert_eq!(parsed.runs[0].energy_uj, 10_800_000_000_000);
    assert_eq!(parsed.refused[0].line, 4, "there is no 31 April");
    let of_2021 = "timestamp,project_name,run_id,duration,emissions,emissions_rate,cpu_power,\
        gpu_power,ram_power,cpu_energy,gpu_energy,ram_energy,energy_consumed,codecarbon_version,\
        gpu_count,gpu_model,pue\n\
        2021-09-23T15:04:51,codecarbon,0a578547,161.2,0.000449,0.0027,0.27,0.0,12.88,0.0,0,\
        0.00057442898176,0.00057442898176,2.1.3,,,1.0\n";
    let parsed = parse_text("x.csv", of_2021).unwrap();
    assert_eq!((parsed.refused.len(), parsed.remarks.len()), (0, 0));
    assert!((joules(parsed.runs[0].energy_uj) - 2067.944).abs() < 0.01);
}

#[test]
fn of_the_rows_that_a_flush_left_only_the_longest_counts() {
    let text = "timestamp,run_id,duration,emissions,energy_consumed\n\
        2024-01-01T00:00:10,r,10,0.0001,0.001\n\
        2024-01-01T00:00:30,r,30,0.0003,0.003\n\
        2024-01-01T00:00:20,r,20,0.0002,0.002\n";
    let parsed = parse_text("x.csv", text).unwrap();
    assert_eq!((parsed.runs.len(), parsed.superseded), (1, 2));
    assert_eq!(parsed.runs[0].energy_uj, 10_800_000_000);
}

#[test]
fn a_row_that_cannot_be_true_is_refused_and_costs_no_other() {
    let text = "timestamp,run_id,duration,emissions,cpu_energy,gpu_energy,energy_consumed\r\n\
        2024-01-01T00:00:10,good,10,0.0001,0.001,0,0.001\r\n\
        2024-01-01T00:00:10,nan,10,0.0001,0.001,0,NaN\r\n\
        2024-01-01T00:00:10,negative,10,0.0001,0.001,0,-0.001\r\n\
        2024-01-01T00:00:10,joules,10,0.0001,3600,0,3600\r\n\
        2024-01-01T00:00:10,grams,10,0.1,0.001,0,0.00001\r\n\
        2024-01-01T00:00:10,watthours,10,0.0001,0.001,0,1 Wh\r\n\
        2024-01-01T00:00:10,half,10,0.00\r\n\
        2024-01-01T00:00:10,\"open,10,0.0001,0.001,0,0.001\r\n\
        ,no time,10,0.0001,0.001,0,0.001\r\n\
        2024-01-01T00:00:10,for ever,1e300,0.0001,0.001,0,0.001\r\n\
        2024-01-01T00:00:10,parts,10,0.0001,0.002,0.001,0.001\r\n\
        2024-01-01T00:00:10,last,10,,,,0.002";
    let parsed = parse_text("x.csv", text).unwrap();
    let names: Vec<&str> = parsed.runs.iter().map(|run| run.key.as_str()).collect();
    assert_eq!(names, ["good", "parts", "last"]);
    let refused: Vec<u64> = parsed.refused.iter().map(|refused| refused.line).collect();
    assert_eq!(
        refused,
        [3, 4, 5, 6, 7, 8, 9, 10, 11],
        "{:?}",
        parsed.refused
    );
    assert!(parsed.refused[2].what.contains("another unit"));
    let told: Vec<u64> = parsed.remarks.iter().map(|remark| remark.line).collect();
    assert_eq!(
        told,
        [12, 13],
        "parts that differ, and a last line without an end"
    );
    assert_eq!(parsed.runs[2].carbon_ng, None, "not known is not zero");
}

#[test]
fn files_that_were_put_together_are_read_with_each_their_header() {
    let text = "timestamp,run_id,duration,emissions,energy_consumed\n\
        2024-01-01T00:00:10,a,10,0.0001,0.001\n\
        timestamp,duration,run_id,energy_consumed(Wh),emissions\n\
        2024-01-01T00:00:10,10,b,1,0.0001\n";
    let runs = parse_text("x.csv", text).unwrap().runs;
    assert_eq!(runs.len(), 2);
    assert_eq!(runs[0].energy_uj, runs[1].energy_uj);
}

#[test]
fn a_missing_column_and_a_strangers_file_are_told() {
    let text = "timestamp,energy_consumed,emissions\n2024-01-01T00:00:10,1,1\n";
    let why = parse_text("x.csv", text).unwrap_err().to_string();
    assert!(why.contains("`duration`"), "{why}");
    for text in ["a,b\n1,2\n", "\u{0}\u{1}\u{2}", "{\"json\": true}\n"] {
        let error = parse_text("x.csv", text).unwrap_err();
        assert!(matches!(error, ImportError::Unknown), "{text}: {error}");
    }
    assert!(matches!(parse_text("x.csv", ""), Err(ImportError::Empty)));
}

#[test]
fn the_epochs_of_eco2ais_own_file_are_one_run() {
    let parsed = parse(&sample("emission.csv"), None, &TimeZone::UTC).unwrap();
    assert!(parsed.refused.is_empty() && parsed.remarks.is_empty());
    let [run] = parsed.runs.as_slice() else {
        panic!("{parsed:?}");
    };
    assert_eq!((run.tool, run.name.as_str()), (Tool::Eco2ai, "sample"));
    // 1.948964676e-08 and 2.055445306e-08 kWh; 7.7958587e-09 and 8.2217812e-09 kg.
    assert_eq!(run.energy_uj, 70_163 + 73_996);
    assert_eq!(run.carbon_ng, Some(7_796 + 8_222));
    assert_eq!(run.span_ms(), 3_000 + 2_244);
    assert!(run.hardware.cpu.starts_with("AMD EPYC"));
    assert_eq!(run.hardware.gpus, "");
}

#[test]
fn eco2ai_says_its_units_in_its_columns_and_a_row_twice_counts_once() {
    let row = "x,p,d,N/A,2022-06-01 10:00:00,60.5,0.001,0.0004,cpu,gpu,Linux,DE,N/A\n";
    let text = format!(
        "id,project_name,experiment_description,epoch,start_time,duration(s),\
         power_consumption(kWTh),CO2_emissions(kg),CPU_name,GPU_name,OS,region/country,cost\n{row}{row}"
    );
    let parsed = parse_text("x.csv", &text).unwrap();
    assert_eq!((parsed.runs.len(), parsed.superseded), (1, 1));
    assert_eq!(parsed.runs[0].energy_uj, 3_600_000_000);
    let text = text.replace("(kWTh)", "(BTU)");
    assert!(
        parse_text("x.csv", &text).unwrap().refused[0]
            .what
            .contains("BTU")
    );
}

#[test]
fn either_log_of_carbontracker_finds_the_other_and_both_are_one_run() {
    let of_output = parse(&sample(OUTPUT), None, &TimeZone::UTC).unwrap();
    let of_log = parse(&sample(LOG), None, &TimeZone::UTC).unwrap();
    for parsed in [&of_output, &of_log] {
        assert_eq!((&parsed.refused, &parsed.remarks), (&vec![], &vec![]));
        let [run] = parsed.runs.as_slice() else {
            panic!("{parsed:?}");
        };
        // 0.000131682028 kWh with a PUE of 1.58, 0.058598502331 g.
        assert_eq!(run.energy_uj, 474_055_301);
        assert_eq!(run.carbon_ng, Some(58_598_502));
        assert_eq!(run.parts, [(Domain::Package, 474_000_000)]);
        assert_eq!(run.tool_version.as_deref(), Some("2.4.7"));
        assert_eq!(run.hardware.cpu, "AMD EPYC");
        assert_eq!(run.span_ms(), 6_000);
    }
    assert_eq!(of_output.runs[0].key, of_log.runs[0].key);
}

#[test]
fn a_training_that_was_stopped_is_added_up_from_its_epochs() {
    let text = "2022-11-14 15:42:43 - carbontracker version 1.1.6\n\
        2022-11-14 15:42:43 - The following components were found: GPU with device(s) NVIDIA \
        GeForce RTX 3060. CPU with device(s) i7 @ 2.60GHz, cpu:1.\n\
        2022-11-14 15:43:37 - Epoch 1:\n\
        2022-11-14 15:43:37 - Duration: 0:00:50.00\n\
        2022-11-14 15:43:37 - Average power usage (W) for gpu: [100.0 20]\n\
        2022-11-14 15:43:37 - Average power usage (W) for cpu: None\n\
        2022-11-14 15:43:37 - Average carbon intensity during training was 102.00 gCO2/kWh at x.\n";
    let parsed = parse_text("a_carbontracker.log", text).unwrap();
    assert_eq!(
        parsed.refused[0].line, 6,
        "an epoch without watts: {parsed:?}"
    );
    let run = &parsed.runs[0];
    assert_eq!(run.energy_uj, 6_000_000_000);
    assert_eq!(run.carbon_ng, Some(170_000_000));
    assert_eq!(run.hardware.gpus, "NVIDIA GeForce RTX 3060");
    assert_eq!(run.hardware.cpu, "i7 @ 2.60GHz, cpu:1");
}

#[test]
fn what_carbontracker_only_predicted_or_did_not_finish_is_refused() {
    let head = "2022-11-14 15:43:37 - CarbonTracker: \n";
    let body = " consumption for 4 epoch(s):\n\tTime:\t0:03:33\n\tEnergy:\t0.014018 kWh\n\tCO2eq:\t1.4 g\n";
    let parsed = parse_text("a.log", &format!("{head}Predicted{body}")).unwrap();
    assert!(parsed.runs.is_empty());
    assert!(parsed.refused[0].what.contains("predicted"));
    let whole = format!("{head}Actual{body}");
    assert_eq!(parse_text("a.log", &whole).unwrap().runs.len(), 1);
    let cut = whole.split_once("kWh").unwrap().0;
    let parsed = parse_text("a.log", cut).unwrap();
    assert!(parsed.runs.is_empty() && !parsed.refused.is_empty());
    let unknown = whole.replace("1.4 g", "nan g");
    assert_eq!(
        parse_text("a.log", &unknown).unwrap().runs[0].carbon_ng,
        None
    );
    let error = parse_text("a.log", head).unwrap_err();
    assert!(matches!(error, ImportError::NoTraining), "{error}");
}

#[test]
fn a_file_that_is_imported_twice_is_in_the_history_once_and_says_where_it_is_from() {
    let folder = tempfile::tempdir().unwrap();
    let history = folder.path().join("h.db");
    let path = sample("emissions.csv");
    let runs = parse(&path, None, &TimeZone::UTC).unwrap().runs;
    assert_eq!(store::put(&history, &path, &runs).unwrap(), 2);
    assert_eq!(store::put(&history, &path, &runs).unwrap(), 0);
    let db = file::open_to_read(&history).unwrap();
    let listed = kept::list(&db, &kept::Wanted::default()).unwrap();
    assert_eq!(listed.len(), 2);
    let run = &listed[1].run;
    assert_eq!(
        (run.origin.as_str(), run.measured_by.as_str()),
        ("codecarbon", "import")
    );
    assert_eq!(run.energy_uj, Some(84_918_755));
    assert!(run.estimated && run.meters.len() == 3);
    let provenance = run.provenance.clone().unwrap();
    assert!(
        provenance.starts_with("codecarbon 3.3.2, ") && provenance.ends_with("emissions.csv:2")
    );
}

#[test]
fn the_table_lines_up_and_holds_no_control_characters() {
    let mut runs = parse(&sample("emissions.csv"), None, &TimeZone::UTC)
        .unwrap()
        .runs;
    runs[1].name = "a\x1b[2J".to_owned();
    let text = table(&runs, &TimeZone::UTC);
    assert!(text.contains("2026-11-25 17:02:17  3.04 s"), "{text}");
    assert!(
        text.contains("84.9 J") && text.contains("8.99 mg"),
        "{text}"
    );
    assert!(!text.contains('\x1b'));
}
