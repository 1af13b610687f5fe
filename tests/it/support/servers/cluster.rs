//! A Redis cluster.

use redis::cmd;

use super::redis::Redis;
use super::until;

/// The slots of a cluster, which keys fall into.
const SLOTS: usize = 16_384;
const MASTERS: usize = 3;

/// Three masters that share the slots, without replicas.
pub struct RedisCluster {
    nodes: Vec<Redis>,
}

impl RedisCluster {
    pub fn start() -> Self {
        let arguments = ["--cluster-enabled", "yes", "--cluster-node-timeout", "5000"];
        let nodes: Vec<_> = (0..MASTERS)
            .map(|_| Redis::start_with(&arguments))
            .collect();
        let cluster = Self { nodes };
        let mut asked: Vec<_> = cluster.nodes.iter().map(Redis::connection).collect();
        for (no, node) in asked.iter_mut().enumerate() {
            let slots: Vec<_> = (no * SLOTS / MASTERS..(no + 1) * SLOTS / MASTERS).collect();
            let order = |words: &[&str]| cmd("CLUSTER").arg(words).clone();
            let epoch = (no + 1).to_string();
            order(&["SET-CONFIG-EPOCH", &epoch])
                .exec(node)
                .expect("an epoch");
            order(&["ADDSLOTS"]).arg(slots).exec(node).expect("slots");
            let first = cluster.nodes[0].port().to_string();
            order(&["MEET", "127.0.0.1", &first])
                .exec(node)
                .expect("met");
        }
        for node in &mut asked {
            until("a whole cluster", || {
                let told: String = cmd("CLUSTER").arg("INFO").query(node).expect("an answer");
                let is = |what: &str| told.lines().any(|line| line == what);
                let is_whole = is("cluster_state:ok") && is("cluster_known_nodes:3");
                (is_whole && is("cluster_size:3")).then_some(())
            });
        }
        cluster
    }

    /// Each node's, the holder of the lowest slots first.
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(Redis::url).collect()
    }

    pub fn nodes(&self) -> &[Redis] {
        &self.nodes
    }

    /// Kills one of the nodes; its slots are gone with it.
    pub fn kill(&mut self, node: usize) {
        self.nodes[node].kill();
    }
}
