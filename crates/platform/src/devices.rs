//! The fan, and NvMap: who holds memory of the GPU (debugfs, root only).

use serde::{Deserialize, Serialize};

use crate::Root;
use crate::rails::monitors;

/// The fan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Fan {
    /// What it is driven with, of 255.
    pub pwm: Option<u8>,
    /// Turns a minute.
    pub rpm: Option<u32>,
}

impl Fan {
    /// Reads it.
    pub fn read(root: &Root) -> Fan {
        let first = |name: &str| monitors(root, name).into_iter().next();
        Fan {
            pwm: first("pwmfan").and_then(|folder| root.number(&format!("{folder}/pwm1"))),
            rpm: first("pwm_tach").and_then(|folder| root.number(&format!("{folder}/rpm"))),
        }
    }
}

/// Memory of the GPU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NvMap {
    /// All of it, bytes.
    pub total: Option<u64>,
    /// Who holds it.
    pub clients: Vec<Client>,
}

/// A program that holds memory of the GPU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Client {
    /// Its name.
    pub name: String,
    /// Its process.
    pub pid: u32,
    /// Bytes.
    pub bytes: u64,
}

impl NvMap {
    /// Reads it; only root may.
    pub fn read(root: &Root) -> NvMap {
        let folder = "/sys/kernel/debug/nvmap";
        let clients = root.text(&format!("{folder}/iovmm/clients")).unwrap_or_default();
        let sum = || kib(clients.lines().rev().find_map(|line| line.trim().strip_prefix("total"))?);
        NvMap {
            total: root.number(&format!("{folder}/stats/total_memory")).or_else(sum),
            clients: clients.lines().filter_map(client).collect(),
        }
    }
}

/// `user  llama-server  2034  61440K`; names may hold blanks.
fn client(line: &str) -> Option<Client> {
    let mut words = line.split_whitespace();
    let bytes = kib(words.next_back()?)?;
    let pid = words.next_back()?.parse().ok()?;
    words.next()?;
    Some(Client { name: words.collect::<Vec<_>>().join(" "), pid, bytes })
}

fn kib(text: &str) -> Option<u64> {
    text.trim().strip_suffix('K')?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use testkit::board::{JetPack, Model, board};

    use super::{Client, Fan, NvMap};
    use crate::Root;

    #[test]
    fn the_fan_and_those_who_hold_memory() {
        let tree = board(Model::OrinNanoSuper, JetPack::Six);
        let root = Root::at(tree.path()).expect("a folder");
        assert_eq!(Fan::read(&root), Fan { pwm: Some(76), rpm: Some(1636) });
        let nvmap = NvMap::read(&root);
        assert_eq!(nvmap.total, Some(94_371_840));
        let server = Client { name: "llama-server".to_owned(), pid: 2034, bytes: 61_440 << 10 };
        assert_eq!((nvmap.clients.len(), &nvmap.clients[0]), (2, &server));
        tree.remove("/sys/kernel/debug/nvmap/stats");
        assert_eq!(NvMap::read(&root).total, Some(92_160 << 10));
        tree.remove("/sys/kernel/debug/nvmap");
        assert_eq!(NvMap::read(&root), NvMap::default());
    }
}
