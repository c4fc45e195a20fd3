//! Files split into shards, `NAME-00001-of-00003.gguf` and so on, as llama.cpp's gguf-split makes them.
//!
//! The first shard has all keys; each has `split.no`, `split.count` and its own tensors. A merged file
//! keeps the keys with a count of 0.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::error::{Error, shown, shown_path};
use crate::parse::{self, Header};
use crate::source::Source;
use crate::{Gguf, Keys, Shard, limits};

/// Opens the file at `path` and, if it is a shard, all others of its split.
pub(crate) fn open(path: &Path) -> Result<Gguf, Error> {
    let (source, name, header) = open_one(path, 0)?;
    let Some(place) = Place::of(&header.keys, &name)? else {
        return Gguf::from_shards(vec![Shard { source, name }], header);
    };
    let expected = place.number;
    let names = Names::of(path, &place, &name)?;
    let (mut first, mut shards) = if expected == 0 {
        (header, vec![Shard { source, name: name.clone() }])
    } else {
        let (source, name, header) = open_shard(&names, 0, place.count)?;
        (header, vec![Shard { source, name }])
    };
    let arch = |keys: &Keys| keys.get("general.architecture").cloned();
    for number in 1..place.count {
        let (source, name, mut header) = open_shard(&names, number, place.count)?;
        if arch(&header.keys).is_some_and(|found| Some(found) != arch(&first.keys)) {
            let problem =
                "its general.architecture is not that of the first shard; get the shards of one model";
            return Err(Error::Split { file: name, problem: problem.into() });
        }
        if header.version != first.version {
            let problem = "its GGUF version is not that of the first shard; get the shards of one model";
            return Err(Error::Split { file: name, problem: problem.into() });
        }
        first.tensors.append(&mut header.tensors);
        if first.tensors.len() as u64 > limits::TENSORS {
            let problem = format!("the shards have more than {} tensors together", limits::TENSORS);
            return Err(Error::Split { file: name, problem });
        }
        shards.push(Shard { source, name });
    }
    let told = first.keys.get("split.tensors.count").and_then(crate::Value::as_integer);
    if told.is_some_and(|told| told != first.tensors.len() as i128) {
        let told = told.expect("checked to be there");
        let problem = format!(
            "split.tensors.count is {told} and the shards have {} tensors; get them again",
            first.tensors.len()
        );
        return Err(Error::Split { file: shards[0].name.clone(), problem });
    }
    Gguf::from_shards(shards, first)
}

/// Refuses a shard that has no path, so that its others cannot be found.
pub(crate) fn refuse(keys: &Keys, name: &str) -> Result<(), Error> {
    match Place::of(keys, name)? {
        None => Ok(()),
        Some(place) => {
            let problem = format!("it is one of {} shards; open it by its path", place.count);
            Err(Error::Split { file: name.into(), problem })
        }
    }
}

fn open_one(path: &Path, shard: u16) -> Result<(Source, String, Header), Error> {
    let source = Source::open(path)?;
    let name = path.file_name().map_or_else(|| shown_path(path), |name| shown(name.as_bytes()));
    let header = parse::header(&source, &name, shard)?;
    Ok((source, name, header))
}

fn open_shard(names: &Names, number: u16, count: u16) -> Result<(Source, String, Header), Error> {
    let (source, name, header) = open_one(&names.path(number), number)?;
    match Place::of(&header.keys, &name)? {
        Some(place) if place.number == number && place.count == count => Ok((source, name, header)),
        found => {
            let found = found.map_or("no shard".into(), |p| format!("shard {} of {}", p.number + 1, p.count));
            let problem =
                format!("its keys say it is {found}, its name shard {} of {count}; get it again", number + 1);
            Err(Error::Split { file: name, problem })
        }
    }
}

/// Where a shard stands: `split.no` (from 0) and `split.count`.
struct Place {
    number: u16,
    count: u16,
}

impl Place {
    /// The place a file's keys give, `None` for a file that is whole.
    fn of(keys: &Keys, name: &str) -> Result<Option<Place>, Error> {
        let read = |key: &str, most: u64| match keys.get(key) {
            None => Ok(None),
            Some(value) => value
                .as_integer()
                .and_then(|v| u16::try_from(v).ok())
                .filter(|&v| u64::from(v) <= most)
                .map(Some)
                .ok_or_else(|| keys.wrong(name, key, &format!("an integer from 0 to {most}"))),
        };
        let count = read("split.count", limits::SHARDS)?.unwrap_or(0);
        let number = read("split.no", u64::from(count.max(1)) - 1)?;
        if count < 2 {
            return Ok(None);
        }
        let number = number.ok_or_else(|| keys.wrong(name, "split.no", "an integer"))?;
        Ok(Some(Place { number, count }))
    }
}

/// The names of a split's shards.
struct Names {
    folder: PathBuf,
    stem: OsString,
    count: u16,
}

impl Names {
    /// From the path of the shard at `place`, whose name must be the one its keys ask for.
    fn of(path: &Path, place: &Place, name: &str) -> Result<Names, Error> {
        let suffix = suffix(place.number, place.count);
        let stem = path.file_name().and_then(|file| file.as_bytes().strip_suffix(suffix.as_bytes()));
        match stem {
            Some(stem) => Ok(Names {
                folder: path.parent().unwrap_or(Path::new("")).into(),
                stem: OsString::from_vec(stem.to_vec()),
                count: place.count,
            }),
            None => Err(Error::Split {
                file: name.into(),
                problem: format!(
                    "its keys say it is shard {} of {}; rename it to end in {suffix}, beside the others",
                    place.number + 1,
                    place.count
                ),
            }),
        }
    }

    fn path(&self, number: u16) -> PathBuf {
        let mut name = self.stem.clone();
        name.push(suffix(number, self.count));
        self.folder.join(name)
    }
}

/// `-00001-of-00003.gguf` for number 0 of 3.
fn suffix(number: u16, count: u16) -> String {
    format!("-{:05}-of-{count:05}.gguf", number + 1)
}
