//! Batches whose output files are in a bucket.

use futures_util::FutureExt;
use rowmill::Status;
use serde_json::Value;

use crate::e2e::world::{World, ask, numbers, queries, rows, submit};
use crate::support::s3::S3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn output_files_in_a_bucket_have_the_bytes_that_a_folder_has() {
    let s3 = S3::start();
    let mut sums = Vec::new();
    for bucket in [false, true] {
        let world = World::new().await;
        let builder = match bucket {
            true => world.builder().objects(s3.objects()),
            false => world.builder(),
        };
        let batches = rows(|cx, input| {
            cx.write_line("all.csv", &format!("{input};{}", "ü".repeat(2000)));
            if input.as_u64().is_some_and(|n| n % 3 == 0) {
                cx.write_line("third.txt", &input.to_string());
            }
            // More files than are staged at once.
            cx.write_line(&format!("{}.txt", input.as_u64().unwrap() % 40), "x");
            async { Ok(Value::Null) }.boxed()
        });
        let answers = queries(|cx, _| {
            async move {
                let mut file = cx.create_file("answer.bin").await?;
                for _ in 0..20 {
                    file.write(&[7; 1 << 20]).await?;
                }
                cx.finish_file(file).await?;
                Ok(Value::Null)
            }
            .boxed()
        });
        let manager = builder
            .batch("bank", "post", batches)
            .slow_query("bank", "ask", answers)
            .build()
            .unwrap();
        let batch = submit(&manager, "post", numbers(3000)).await;
        let query = ask(&manager, "ask", "1").await;
        world.work_to_the_end(&manager).await;
        let mut files = Vec::new();
        for id in [batch, query] {
            let ended = manager.batch_done(id).await.unwrap();
            assert_eq!(ended.status, Status::Success);
            files.extend(ended.files);
        }
        assert_eq!(files.len(), 43);
        for file in &files {
            let mut open = manager.open_file(file).await.unwrap();
            let mut bytes = Vec::new();
            tokio::io::AsyncReadExt::read_to_end(&mut open, &mut bytes)
                .await
                .unwrap();
            assert_eq!(super::sha256(&bytes), file.sha256);
        }
        if bucket {
            let mut keys: Vec<_> = files.iter().map(|file| file.key.clone()).collect();
            keys.sort();
            assert_eq!(s3.keys(), keys, "nothing is staged");
        }
        let told = files.into_iter().map(|f| (f.name, f.size, f.sha256));
        sums.push(told.collect::<Vec<_>>());
        world.end(&manager).await;
    }
    assert_eq!(sums[0], sums[1]);
}
