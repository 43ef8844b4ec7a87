//! The files of a bundle on several media.

use std::fs;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use bundle::{FileKind, LABEL, Repairable, SEAL, TOOL, Verdict};
use commands::check::{Options, Presence, Report, check_bundle, text};
use console::{Explain, Fault, Progress};
use testkit::hostile::flip_bit;

use crate::release::{Recovery, Release, run};

fn states(report: &Report, state: Verdict) -> Vec<u32> {
    let volumes = report.files.iter().filter(|f| f.kind == FileKind::Volume && f.state == state);
    volumes.filter_map(|f| f.volume).collect()
}

fn presence(report: &Report) -> Vec<Presence> {
    report.media.iter().map(|m| m.state).collect()
}

#[test]
fn all_media_of_a_bundle_are_one_bundle() {
    let release = Release::split();
    let media = release.pack("out", 1, &[]);
    // One by one, or as `pack` leaves them.
    for folders in [media.clone(), vec![release.path("out")]] {
        let report = release.check(&folders);
        report.verdict(true).unwrap();
        assert_eq!(states(&report, Verdict::Good), [1, 2, 3, 4, 5, 6]);
        assert_eq!(presence(&report), [Presence::Here; 3]);
        assert_eq!(report.signed_by, Some(vec![release.key.fingerprint.clone()]));
        assert_eq!(report.folders.iter().map(|f| f.volumes.to_string()).collect::<Vec<_>>(), ["1-2", "3-4", "5-6"]);
        assert!(report.bytes > 6 * 10_000 && report.bytes_per_second > 0, "{}", report.bytes);
        assert!(text(&report).lines().last().unwrap().starts_with("read "), "{}", text(&report));
        assert!(report.files.iter().all(|f| f.revisions.is_empty()));
    }
    assert_eq!(run(&media, &["--all", "--json"]), Ok(()));
}

#[test]
fn a_medium_that_is_not_here_is_no_error_unless_all_must_be() {
    let release = Release::split();
    let media = release.pack("out", 1, &[]);
    let report = release.check(&[media[1].clone()]);
    report.verdict(false).unwrap();
    assert_eq!(presence(&report), [Presence::NotHere, Presence::Here, Presence::NotHere]);
    assert_eq!(states(&report, Verdict::Elsewhere), [1, 2, 5, 6]);
    assert!(report.files.iter().any(|f| f.kind == FileKind::Tool && f.state == Verdict::Elsewhere));
    assert!(text(&report).contains("medium 3: not here, volumes 5-6"), "{}", text(&report));

    let error = report.verdict(true).unwrap_err();
    assert_eq!(error.fault(), Fault::Damaged);
    assert_eq!(error.to_string(), "media 1 and 3 are not in the folders given");
    let (fault, said) = run(&media[..2], &["--all"]).unwrap_err();
    assert!(fault == Fault::Damaged && said.contains("medium 3 is not in the folders given"), "{said}");
}

#[test]
fn of_a_medium_that_is_partly_here_everything_must_be() {
    let release = Release::split();
    let media = release.pack("out", 1, &[]);
    fs::remove_file(release.volume(&media[1], 4)).unwrap();
    fs::remove_file(media[0].join(TOOL)).unwrap();
    let report = release.check(&media[..2]);
    assert_eq!(presence(&report), [Presence::Here, Presence::PartlyHere, Presence::NotHere]);
    assert_eq!(states(&report, Verdict::Missing), [4]);
    let error = report.verdict(false).unwrap_err();
    assert_eq!(
        error.to_string(),
        "2 of 7 sealed files are missing or damaged: sealift-import, payments-42.0004.tar.zst.age; volume 4 must be sent \
         again: `sealift-export pack --volume 4`"
    );
    // A medium on which no volume is left is not simply "not here".
    fs::remove_file(release.volume(&media[1], 3)).unwrap();
    let (fault, said) = run(&media[1..], &[]).unwrap_err();
    assert!(fault == Fault::Damaged && said.contains("medium-2: no volume is there"), "{said}");

    // All of a bundle on one medium must be there.
    let release = Release::single();
    let media = release.pack("out", 1, &[]);
    for n in [1, 3] {
        fs::remove_file(release.volume(&media[0], n)).unwrap();
    }
    let report = release.check(&media);
    assert!(report.media.is_empty());
    let said = report.verdict(false).unwrap_err().to_string();
    assert!(said.ends_with("volumes 1 and 3 must be sent again: `sealift-export pack --volume 1,3`"), "{said}");
    fs::remove_file(release.volume(&media[0], 2)).unwrap();
    assert_eq!(states(&release.check(&media), Verdict::Missing), [1, 2, 3], "even if none is there");
    // Two halves make a whole.
    fs::copy(release.volume(&release.pack("third", 1, &[])[0], 2), release.volume(&media[0], 2)).unwrap();
    let other = release.pack("other", 1, &[]);
    fs::remove_file(release.volume(&other[0], 2)).unwrap();
    release.check(&[media[0].clone(), other[0].clone()]).verdict(true).unwrap();
}

#[test]
fn damage_is_told_file_by_file() {
    let release = Release::split();
    let media = release.pack("out", 1, &[]);
    flip_bit(&release.volume(&media[0], 2));
    flip_bit(&media[2].join(LABEL));
    let report = release.check(&media);
    assert_eq!(states(&report, Verdict::Damaged), [2]);
    assert_eq!(states(&report, Verdict::Good), [1, 3, 4, 5, 6]);
    let problems: Vec<_> = report.problems().map(|f| (f.name.as_str(), f.folder.clone().unwrap())).collect();
    assert_eq!(problems, [(LABEL, media[2].clone()), ("payments-42.0002.tar.zst.age", media[0].clone())]);
    assert_eq!(report.problems().last().unwrap().repairable, Some(Repairable::NoData));
    // A good copy elsewhere counts, such as one that was sent again; a label does not stand for another medium's.
    fs::copy(release.volume(&release.pack("again", 1, &[])[0], 2), release.volume(&media[1], 2)).unwrap();
    let report = release.check(&media);
    let said = report.verdict(false).unwrap_err().to_string();
    assert!(said.starts_with("1 of 11 sealed files are missing or damaged: LABEL.txt"), "{said}");
    assert_eq!(report.replaced().filter_map(|f| f.volume).collect::<Vec<_>>(), [2]);
    assert!(text(&report).contains("medium-1; there is a good copy"), "{}", text(&report));
    fs::remove_file(media[2].join(LABEL)).unwrap();
    let (fault, said) = run(&media, &[]).unwrap_err();
    assert!(fault == Fault::Damaged && said.contains(LABEL), "{said}");
}

#[test]
fn an_unreadable_file_says_nothing_of_the_others() {
    use std::os::unix::fs::PermissionsExt;
    let release = Release::single();
    let media = release.pack("out", 1, &[]);
    let volume = release.volume(&media[0], 2);
    fs::set_permissions(&volume, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::File::open(&volume).is_ok() {
        eprintln!("skipped: this user can read every file");
        return;
    }
    let report = release.check(&media);
    assert_eq!((states(&report, Verdict::Unreadable), states(&report, Verdict::Good)), (vec![2], vec![1, 3]));
    assert!(text(&report).contains("unreadable ("), "{}", text(&report));
    assert_eq!(report.verdict(false).unwrap_err().fault(), Fault::Damaged);
}

#[test]
fn lost_recovery_data_is_a_warning() {
    let mut release = Release::split();
    release.recovery = Recovery::Names;
    let media = release.pack("out", 1, &[]);
    let report = release.check(&media);
    assert!(text(&report).contains("  recovery data, 2 files"), "{}", text(&report));
    flip_bit(&media[0].join("payments-42.0001.vol000+4.par2"));
    fs::remove_file(media[1].join("payments-42.0003.vol004+4.par2")).unwrap();
    let report = release.check(&media);
    report.verdict(true).unwrap();
    assert_eq!(report.recovery_problems().count(), 2);
    let text = text(&report);
    assert!(text.contains("warning: 2 recovery files are missing or damaged"), "{text}");
    assert!(text.contains("payments-42.0003.vol004+4.par2") && text.contains("missing"), "{text}");
    assert_eq!(run(&media, &[]), Ok(()));
}

#[test]
fn recovery_data_repairs_what_it_can() {
    let mut release = Release::split();
    release.recovery = Recovery::Real;
    let media = release.pack("out", 1, &[]);
    let good = fs::read(release.volume(&media[0], 1)).unwrap();
    flip_bit(&release.volume(&media[0], 1));
    fs::write(release.volume(&media[1], 3), "gone").unwrap();
    fs::remove_file(release.volume(&media[2], 5)).unwrap();
    let report = release.check(&media);
    let repairable: Vec<_> = report.problems().map(|f| (f.volume.unwrap(), f.repairable.unwrap())).collect();
    assert_eq!(repairable, [(1, Repairable::Yes), (3, Repairable::TooLittle), (5, Repairable::TooLittle)]);
    let error = report.verdict(false).unwrap_err();
    let said = error.to_string();
    assert!(said.ends_with("volumes 3 and 5 must be sent again: `sealift-export pack --volume 3,5`"), "{said}");
    assert!(error.hint().unwrap().contains("can repair volume 1: run the same command with --repair"), "{error:?}");

    let (fault, said) = run(&media, &["--repair", "--jobs", "2"]).unwrap_err();
    assert!(fault == Fault::Damaged && said.contains("2 of ") && !said.contains("--repair"), "{said}");
    assert_eq!(fs::read(release.volume(&media[0], 1)).unwrap(), good);
    assert_eq!(run(&media[..1], &["--repair"]), Ok(()));

    // The report tells of the files as they are after the repair.
    flip_bit(&release.volume(&media[0], 1));
    let options = Options { repair: NonZeroUsize::new(1), ..release.trust() };
    let report = check_bundle(&media[..1], &options, &Progress::new(true)).unwrap();
    report.verdict(false).unwrap();
    assert_eq!(
        (&report.repaired[..], &states(&report, Verdict::Good)[..]),
        (&["payments-42.0001.tar.zst.age".into()][..], &[1, 2][..])
    );

    // A damaged recovery file still helps; one of another revision does not mislead.
    flip_bit(&release.volume(&media[0], 1));
    flip_bit(&media[0].join(&report.files.iter().find(|f| f.kind == FileKind::Recovery).unwrap().name));
    assert_eq!(run(&media[..1], &["--repair"]), Ok(()));
    let second = release.pack("second", 2, &[2]);
    fs::copy(release.volume(&media[0], 2), release.volume(&second[0], 2)).unwrap();
    let report = release.check(&[second[0].clone()]);
    let repairable = |report: &Report| report.problems().map(|f| f.repairable.unwrap()).collect::<Vec<_>>();
    assert_eq!(repairable(&report), [Repairable::TooLittle]);
    let recovery = |folder: &PathBuf| -> Vec<PathBuf> {
        let report = release.check(std::slice::from_ref(folder));
        let files = report.files.iter().filter(|f| f.kind == FileKind::Recovery && f.volume == Some(2));
        files.map(|f| folder.join(&f.name)).collect()
    };
    for (old, new) in recovery(&media[0]).iter().zip(recovery(&second[0])) {
        fs::copy(old, new).unwrap();
    }
    assert_eq!(repairable(&release.check(&second[..1])), [Repairable::NoData], "they call the old volume whole");
}

#[test]
fn what_belongs_to_another_bundle_is_refused_by_name() {
    let release = Release::split();
    let media = release.pack("out", 1, &[]);
    let mut before = Release::split();
    before.name = "payments-41".into();
    let others = before.pack("out", 1, &[]);
    let (fault, said) = run(&[media[0].clone(), others[1].clone()], &[]).unwrap_err();
    assert_eq!(fault, Fault::Refused);
    assert!(said.contains(&format!("{} holds payments-41, not payments-42", others[1].display())), "{said}");
    // The same name, another bundle.
    before.name = "payments-42".into();
    let others = before.pack("same", 1, &[]);
    let (fault, said) = run(&[media[0].clone(), others[1].clone()], &[]).unwrap_err();
    assert_eq!(fault, Fault::Refused);
    assert!(said.contains(&format!("holds payments-42 with id {}, not payments-42 with id {}", before.id, release.id)));

    for stray in ["payments-41.0001.tar.zst.age", "payments-42.0007.tar.zst.age"] {
        fs::write(media[0].join(stray), "x").unwrap();
        let (fault, said) = run(&media, &[]).unwrap_err();
        assert!(fault == Fault::Refused && said.contains(&format!("volume `{stray}` is not in the seal")), "{said}");
        fs::remove_file(media[0].join(stray)).unwrap();
    }
}

#[test]
fn any_revision_vouches_for_the_files_that_it_names() {
    let release = Release::split();
    let first = release.pack("first", 1, &[]);
    let second = release.pack("second", 2, &[2]);
    // Medium 1 was made again; the others are those of before.
    let report = release.check(&[first[1].clone(), second[0].clone(), first[2].clone()]);
    report.verdict(true).unwrap();
    assert_eq!((report.revision, states(&report, Verdict::Good)), (2, vec![1, 2, 3, 4, 5, 6]));
    assert_eq!(report.folders.iter().map(|f| f.revision).collect::<Vec<_>>(), [1, 2, 1]);
    let revisions: Vec<_> = report.files.iter().filter(|f| !f.revisions.is_empty()).collect();
    assert_eq!((revisions.len(), revisions[0].volume, &revisions[0].revisions), (1, Some(2), &vec![2]));
    assert!(text(&report).contains("good by seal revision 2"), "{}", text(&report));

    // The old volume is good as long as a seal that names it is here.
    fs::copy(release.volume(&first[0], 2), release.volume(&second[0], 2)).unwrap();
    let report = release.check(&[first[1].clone(), second[0].clone()]);
    report.verdict(false).unwrap();
    assert_eq!(report.files.iter().find(|f| f.volume == Some(2)).unwrap().revisions, [1]);
    assert_eq!(states(&release.check(&second[..1]), Verdict::Damaged), [2]);

    // A seal that nobody trusted has signed vouches for nothing.
    let forged = testkit::Key::new(release.dir.path(), "forger");
    let bytes = fs::read(first[1].join(SEAL)).unwrap();
    fs::write(first[1].join("SHA256SUMS.asc"), forged.sign(&bytes)).unwrap();
    let folders = [first[1].clone(), second[0].clone()];
    let trust = release.key.certificate_file.display().to_string();
    let (fault, said) = run(&folders, &["--trust", &trust]).unwrap_err();
    assert!(fault == Fault::Refused && said.contains(&format!("{}: the seal is not", first[1].display())), "{said}");
}

#[test]
fn a_folder_without_a_seal_is_refused() {
    let release = Release::split();
    let media = release.pack("out", 1, &[]);
    let (fault, said) = run(&[release.dir.path().into()], &[]).unwrap_err();
    assert!(fault == Fault::Refused && said.contains("SHA256SUMS is missing"), "{said}");
    fs::remove_file(media[1].join(SEAL)).unwrap();
    let (fault, said) = run(&[release.path("out")], &[]).unwrap_err();
    assert!(fault == Fault::Refused && said.contains("medium-2: there is no seal"), "{said}");
    assert_eq!(run(&[], &[]).unwrap_err().0, Fault::Usage);
}
