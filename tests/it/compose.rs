//! `docker-compose.yml` is a compose file, and what it sets is what rowmill reads.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

fn document() -> Value {
    let text = std::fs::read_to_string("docker-compose.yml").unwrap();
    serde_yaml_ng::from_str(&text).unwrap()
}

#[test]
fn the_compose_file_fits_the_schema_of_compose_files() {
    let schema = include_str!("compose/compose-spec.json");
    let schema: Value = serde_json::from_str(schema).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let document = document();
    let errors: Vec<String> = validator
        .iter_errors(&document)
        .map(|e| format!("{}: {e}", e.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{errors:#?}");
    // The check sees what does not fit.
    let mut wrong = document;
    wrong["services"]["rowmill"]["replicas"] = 2.into();
    assert!(!validator.is_valid(&wrong));
}

#[test]
fn every_service_of_the_compose_file_says_whether_it_is_well_or_ends() {
    let document = document();
    let services = document["services"].as_object().unwrap();
    let names: Vec<_> = services.keys().map(String::as_str).collect();
    assert_eq!(names, ["bucket", "minio", "postgres", "redis", "rowmill"]);
    for (name, service) in services {
        let is_checked = service["healthcheck"]["test"].is_array();
        assert_eq!(is_checked, name != "bucket", "{name}");
    }
    assert_eq!(services["rowmill"]["deploy"]["replicas"], 2);
}

/// What the file sets, with the values that stand in it for what nobody has set.
fn environment() -> BTreeMap<String, String> {
    let document = document();
    let set = document["services"]["rowmill"]["environment"].as_object();
    let plain = |value: &Value| {
        let mut text = value.as_str().unwrap().to_owned();
        while let Some((before, rest)) = text.split_once("${") {
            let (variable, after) = rest.split_once('}').unwrap();
            let (_, default) = variable.split_once(":-").unwrap();
            text = format!("{before}{default}{after}");
        }
        text
    };
    let set = set.unwrap().iter();
    set.map(|(name, value)| (name.clone(), plain(value)))
        .collect()
}

#[test]
fn the_configuration_knows_every_variable_that_the_compose_file_sets() {
    let environment = environment();
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_rowmill"));
    command.args(["config", "check", "--json"]);
    command.current_dir(dir.path()).env_clear();
    command.envs(&environment);
    let shown = command.output().unwrap();
    // What is a flag as well stands in the help.
    let help = Command::new(env!("CARGO_BIN_EXE_rowmill"))
        .arg("--help")
        .output()
        .unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let told = String::from_utf8_lossy(&shown.stdout);
    let why = String::from_utf8_lossy(&shown.stderr);
    assert!(shown.status.success(), "{told}{why}");
    for name in environment.keys() {
        // The tools of AWS read these, and rowmill by their library.
        if !name.starts_with("AWS_") {
            assert!(
                told.contains(name.as_str()) || help.contains(name.as_str()),
                "nothing comes from {name}: {told}"
            );
        }
    }
    assert!(told.contains("s3://reports/rowmill"), "{told}");
    let password = environment["AWS_SECRET_ACCESS_KEY"].as_str();
    assert!(
        !told.contains(password) && !told.contains("rowmill:rowmill@"),
        "{told}"
    );
}
