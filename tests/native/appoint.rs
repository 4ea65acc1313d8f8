//! Several managers of one domain: its owner appoints a standby on another machine, by the command line, and everybody sees both.

use peerage::base::NodeId;
use peerage::proto::directory::Status;

use crate::cli::{Scratch, failing, peerage, told};
use crate::data::text;
use crate::pairing::{Member, in_time};
use crate::participant::{Home, LISTEN, Participant, manage};

/// What the manager of a data directory says it is.
async fn id(data: &std::path::Path) -> NodeId {
    let (ok, said, errors) = told(peerage(data, &["manager", "--id"]), "").await;
    assert!(ok, "{errors}");
    said.trim().parse().unwrap()
}

#[tokio::test]
async fn a_standby_is_appointed_seen_by_all_and_admits_when_it_is_alone() {
    let scratch = Scratch::new("appoint");
    let mut home = Home::start(&scratch).await;
    let (standby, stranger, file) = (scratch.0.join("standby"), scratch.0.join("stranger"), scratch.0.join("standby.peerage"));
    let (first, second) = (id(&home.owner).await, id(&standby).await);
    assert_eq!(id(&standby).await, second, "its key is made once");
    let named = second.to_string();

    // What cannot be done appoints nobody.
    let appoint = |arguments: &[&str]| peerage(&home.owner, &[&["domain", "appoint"], arguments].concat());
    let (ok, _, said) = told(appoint(&[&named, text(&file)]), "short\n").await;
    assert!(!ok && said.ends_with("[bad-argument]\n"), "{said}");
    let (ok, _, said) = told(appoint(&[&named, text(&home.owner)]), "correct horse battery\n").await;
    assert!(!ok && said.ends_with("[storage]\n"), "{said}");
    let (said, code) = failing(appoint(&[&named, text(&file), "--rank", "16"])).await;
    assert!(code == 2 && said.contains("16"), "{said}");
    let mut ann = Participant::start(&scratch.0.join("ann"), &[&[home.link.as_str(), "--name", "ann"], &LISTEN[..]].concat()).await;
    ann.sees(&first.to_string()).await;
    let (_, shown, _) = told(peerage(&home.owner, &["domain", "show"]), "").await;
    assert!(shown.contains(&format!("{first} Manager, rank 0\n")) && !shown.contains(&named), "{shown}");

    let (ok, said, errors) = told(appoint(&[&named, text(&file)]), "correct horse battery\n").await;
    assert!(ok && said.is_empty(), "{said} {errors}");
    let (_, shown, _) = told(peerage(&home.owner, &["domain", "show"]), "").await;
    assert!(shown.contains(&format!("{first} Manager, rank 0\n")) && shown.contains(&format!("{named} Manager, rank 1\n")), "{shown}");

    // The file opens with its passphrase only, makes nobody an owner, and serves the one it is for.
    let (ok, _, said) = told(peerage(&standby, &["domain", "restore", text(&file)]), "correct horse\n").await;
    assert!(!ok && said.ends_with("[forbidden]\n"), "{said}");
    let (said, _) = failing(peerage(&standby, &["manager"])).await;
    assert!(said.contains("there is no domain"), "nothing was put there: {said}");
    for data in [&standby, &stranger] {
        let (ok, restored, said) = told(peerage(data, &["domain", "restore", text(&file)]), "correct horse battery\n").await;
        assert!(ok && restored.ends_with("root key elsewhere\n"), "{said} {restored}");
    }
    assert!(!standby.join("domain/root.key").exists());
    let another = scratch.0.join("another.peerage");
    let (ok, _, said) = told(peerage(&standby, &["domain", "appoint", &named, text(&another)]), "correct horse battery\n").await;
    assert!(!ok && said.contains("root key") && said.ends_with("[forbidden]\n") && !another.exists(), "{said}");
    let (said, _) = failing(peerage(&stranger, &["manager"])).await;
    for words in ["this machine's manager was not appointed", "`peerage manager --id`", "peerage domain appoint", "[forbidden]"] {
        assert!(said.contains(words), "{said}");
    }

    // Both are there, and whoever joins sees them in their order.
    let relay = home.ready.addresses[0].clone();
    let mut serving = manage(&standby, &relay, &[]).await;
    let bea = Member::joined(&home.link, "bea").await;
    let both = [(first, 0, Status::Online), (second, 1, Status::Online)];
    let seen = || bea.node.managers(bea.domain).unwrap().iter().map(|m| (m.node, m.rank, m.presence)).collect::<Vec<_>>();
    in_time("both managers are there", async {
        while seen() != both {
            bea.node.next_event().await.unwrap();
        }
    })
    .await;
    ann.sees(&named).await;

    // The standby knows the domain's invitations: with nobody else there it lets joiners in.
    bea.node.close();
    ann.child.kill().await.unwrap();
    home.manager.kill().await.unwrap();
    let mut cal = Participant::start(&scratch.0.join("cal"), &[&[home.link.as_str(), "--name", "cal"], &LISTEN[..]].concat()).await;
    cal.sees(&named).await;
    serving.kill().await.unwrap();
}
