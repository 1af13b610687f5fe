//! The first minutes: `init`, what it wrote, and `completions`.

use std::process::Command;

use super::rowmill::{Done, Rowmill};

/// An empty folder.
fn empty() -> Rowmill {
    let rowmill = Rowmill::new();
    for name in ["rowmill.toml", "handler.py"] {
        std::fs::remove_file(rowmill.path(name)).unwrap();
    }
    rowmill
}

#[test]
fn what_init_writes_runs_as_it_is() {
    let rowmill = empty();
    let answer = rowmill.run("init jobs --json").code(0).json();
    assert_eq!(
        answer["files"],
        serde_json::json!(["jobs/transactions.csv", "jobs/post.py", "jobs/rowmill.toml"])
    );
    // The command is typed as it is printed.
    let next = answer["next"].as_str().unwrap();
    let mut typed = Command::new("sh");
    typed.args(["-c", &format!("{next} --json")]);
    typed.current_dir(rowmill.path("."));
    typed
        .env_remove("ROWMILL_DATABASE")
        .env_remove("ROWMILL_CONFIG");
    let batch = Done::of(next, typed.output().unwrap()).code(1).json();
    assert_eq!(
        (&batch["counts"]["success"], &batch["counts"]["failed"]),
        (&4.into(), &1.into())
    );
    let key = batch["files"][0]["key"].as_str().unwrap();
    assert_eq!(
        rowmill.read(&format!("jobs/rowmill-files/{key}")),
        "ACC-1,250.00\nACC-2,-75.50\nACC-1,19.99\nACC-2,100.00\n"
    );
    let id = batch["id"].as_str().unwrap();
    let failed = rowmill
        .run(&format!(
            "rows {id} --status failed --json --config jobs/rowmill.toml"
        ))
        .code(0)
        .json();
    assert_eq!(failed["line"], 5);
    assert_eq!(failed["messages"][0]["errcode"], "bad_amount");
    rowmill
        .run("config check --config jobs/rowmill.toml")
        .code(0);
}

#[test]
fn init_writes_here_where_no_folder_is_named() {
    let rowmill = empty();
    let text = rowmill.run("init").code(0).stdout;
    assert!(
        text.ends_with("run transactions.csv --app bank --op post\n"),
        "{text}"
    );
    rowmill
        .run("run transactions.csv --app bank --op post")
        .code(1);
}

#[test]
fn init_writes_over_nothing_and_leaves_nothing_half_done() {
    for taken in ["rowmill.toml", "post.py", "transactions.csv"] {
        let rowmill = empty();
        // Not even a broken configuration is in its way.
        rowmill.write(taken, "mine [");
        let problem = rowmill.run("init --json").code(3).problem();
        assert_eq!(problem["id"], "exists");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(taken), "{detail}");
        assert_eq!(rowmill.read(taken), "mine [");
        assert_eq!(std::fs::read_dir(rowmill.path(".")).unwrap().count(), 1);
    }
    let rowmill = empty();
    rowmill.write("file", "");
    rowmill.run("init file").code(4);
    rowmill.run("init /proc/x").code(4);
}

#[test]
fn bash_takes_the_completions_and_offers_the_commands() {
    let rowmill = Rowmill::new();
    rowmill.write("rowmill.toml", "broken [");
    let script = rowmill.run("completions bash").code(0).stdout;
    rowmill.write("complete.sh", &script);
    // What bash itself would offer after "rowmill " and "rowmill query ".
    let offer = r#"source ./complete.sh
        COMP_WORDS=(rowmill ""); COMP_CWORD=1; _rowmill rowmill "" rowmill; echo "${COMPREPLY[@]}"
        COMP_WORDS=(rowmill query ""); COMP_CWORD=2; _rowmill rowmill "" query; echo "${COMPREPLY[@]}""#;
    let bash = |args: &[&str]| {
        let mut command = Command::new("bash");
        command.args(args).current_dir(rowmill.path("."));
        Done::of("bash", command.output().unwrap()).code(0).stdout
    };
    bash(&["-n", "complete.sh"]);
    let offered = bash(&["-c", offer]);
    let mut lines = offered.lines();
    let commands: Vec<&str> = lines.next().unwrap().split(' ').collect();
    for command in ["run", "submit", "status", "query", "init", "completions"] {
        assert!(commands.contains(&command), "{command}: {commands:?}");
    }
    let queries: Vec<&str> = lines.next().unwrap().split(' ').collect();
    for command in ["submit", "status", "abort"] {
        assert!(queries.contains(&command), "{command}: {queries:?}");
    }
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        assert!(
            !rowmill
                .run(&format!("completions {shell}"))
                .code(0)
                .stdout
                .is_empty()
        );
    }
    rowmill.run("completions tcsh").code(2);
}
