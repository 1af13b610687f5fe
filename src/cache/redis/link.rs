//! A connection to one server or to a cluster: shared by all calls, which wait for none before them.

use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::{Client, Cmd, RedisResult, Value};

/// What is connected to.
pub(super) enum Target {
    One(Box<Client>),
    Cluster(Box<ClusterClient>),
}

#[derive(Clone)]
pub(super) enum Link {
    One(ConnectionManager),
    Cluster(ClusterConnection),
}

impl Target {
    pub(super) async fn connect(&self, response: Duration) -> RedisResult<Link> {
        Ok(match self {
            Self::One(client) => {
                let config = ConnectionManagerConfig::new()
                    .set_number_of_retries(0)
                    .set_connection_timeout(Some(super::breaker::CONNECT))
                    .set_response_timeout(Some(response));
                let manager = ConnectionManager::new_with_config(Client::clone(client), config);
                Link::One(manager.await?)
            }
            Self::Cluster(client) => Link::Cluster(client.get_async_connection().await?),
        })
    }
}

impl Link {
    pub(super) async fn ask(&mut self, command: &Cmd) -> RedisResult<Value> {
        match self {
            Self::One(link) => command.query_async(link).await,
            Self::Cluster(link) => command.query_async(link).await,
        }
    }
}
