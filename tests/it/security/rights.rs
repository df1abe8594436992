//! The rights that `check-config --connect` names before anything is read or written.

use super::{NO_GROUP, Surroundings, page, said, until_true};

/// Takes each right away that only writing and reading need, and checks the settings:
/// nothing is read or written before it is missing.
pub fn check(all: &Surroundings) {
    let grants = page::grants();
    let grants = grants["run"].iter().chain(&grants["run: attempt log"]);
    let rights = [
        (
            "Read --topic call-ended.delay. --resource-pattern-type prefixed",
            "wrong: no right to read the topic 'call-ended.delay.1m': allow READ on the topic",
        ),
        (
            "Write --topic call-ended.delay. --resource-pattern-type prefixed",
            "wrong: no right to write to the topic 'call-ended.delay.1m': allow WRITE on",
        ),
        ("Read --group ringback", NO_GROUP),
    ];
    let tenants = all.tenants.to_str().expect("UTF-8");
    let words = ["check-config", "--connect", "--tenants", tenants];
    for (name, text) in rights {
        let grant = grants.clone().find(|grant| grant.name == name);
        let grant = grant.expect("the page has it");
        all.secure.forbid(grant);
        let told = || said(&all.command("ringback", &words)).contains(text);
        until_true(told, || name.to_owned());
        all.secure.allow([grant]);
        let good = || all.command("ringback", &words).status.success();
        until_true(good, || format!("{name} to be there again"));
    }
}
