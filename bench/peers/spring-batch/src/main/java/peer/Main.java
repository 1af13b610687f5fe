package peer;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.net.URI;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.DriverManager;
import java.util.UUID;
import javax.sql.DataSource;
import org.springframework.batch.core.BatchStatus;
import org.springframework.batch.core.configuration.support.JdbcDefaultBatchConfiguration;
import org.springframework.batch.core.job.Job;
import org.springframework.batch.core.job.JobExecution;
import org.springframework.batch.core.job.builder.JobBuilder;
import org.springframework.batch.core.job.parameters.JobParametersBuilder;
import org.springframework.batch.core.launch.JobOperator;
import org.springframework.batch.core.repository.JobRepository;
import org.springframework.batch.core.step.builder.StepBuilder;
import org.springframework.batch.infrastructure.item.ItemProcessor;
import org.springframework.batch.infrastructure.item.database.JdbcBatchItemWriter;
import org.springframework.batch.infrastructure.item.database.builder.JdbcBatchItemWriterBuilder;
import org.springframework.batch.infrastructure.item.file.FlatFileItemReader;
import org.springframework.batch.infrastructure.item.file.builder.FlatFileItemReaderBuilder;
import org.springframework.context.annotation.AnnotationConfigApplicationContext;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;
import org.springframework.core.io.FileSystemResource;
import org.springframework.jdbc.core.JdbcTemplate;
import org.springframework.jdbc.support.JdbcTransactionManager;

/** Spring Batch: one step that reads the file, parses each row and writes its result into a table. Main CHUNK [update]. */
public class Main {
    record Row(long line, String json) {}

    record Result(long line, String json) {}

    static String url() {
        URI uri = URI.create(System.getenv("PEER_URL"));
        return "jdbc:postgresql://" + uri.getHost() + ":" + uri.getPort() + uri.getPath() + "?user=" + uri.getUserInfo()
                + "&reWriteBatchedInserts=" + System.getProperty("rewrite", "true");
    }

    @Configuration
    static class Config extends JdbcDefaultBatchConfiguration {
        @Bean
        public DataSource dataSource() {
            HikariConfig config = new HikariConfig();
            config.setJdbcUrl(url());
            return new HikariDataSource(config);
        }

        @Bean
        public JdbcTransactionManager transactionManager() {
            return new JdbcTransactionManager(dataSource());
        }
    }

    static final String FILL = "insert into results select 'b', line, 0, null from generate_series(1, ?) line";

    static void makeTables() throws Exception {
        try (var connection = DriverManager.getConnection(url()); var statement = connection.createStatement();
                var schema = Main.class.getResourceAsStream("/org/springframework/batch/core/schema-postgresql.sql")) {
            statement.execute(new String(schema.readAllBytes()));
            statement.execute("create table results (batch text, line bigint, status smallint, res jsonb, primary key (batch, line))");
        }
    }

    /** The records that updates are of, as a table is that has been there for a while. */
    static void fill(JdbcTemplate template) throws Exception {
        try (var lines = Files.lines(Path.of(System.getenv("PEER_ROWS")))) {
            template.update(FILL, lines.count());
        }
        template.execute("vacuum analyze results");
    }

    static void run(AnnotationConfigApplicationContext context, int chunk, boolean updates, String file) throws Exception {
        JobRepository repository = context.getBean(JobRepository.class);
        DataSource source = context.getBean(DataSource.class);
        ObjectMapper mapper = new ObjectMapper();
        FlatFileItemReader<Row> reader = new FlatFileItemReaderBuilder<Row>().name("rows").resource(new FileSystemResource(file))
                .lineMapper((text, line) -> new Row(line, text)).build();
        ItemProcessor<Row, Result> processor = row -> {
            JsonNode posting = mapper.readTree(row.json());
            return new Result(row.line(), "{\"balance\":\"" + posting.get("amount").asText() + "\"}");
        };
        JdbcBatchItemWriter<Result> writer = new JdbcBatchItemWriterBuilder<Result>().dataSource(source)
                .sql(updates ? "update results set status = 1, res = cast(? as jsonb) where batch = ? and line = ?"
                        : "insert into results (res, batch, line, status) values (cast(? as jsonb), ?, ?, 1)")
                .itemPreparedStatementSetter((result, statement) -> {
                    statement.setString(1, result.json());
                    statement.setString(2, "b");
                    statement.setLong(3, result.line());
                }).build();
        writer.afterPropertiesSet();
        var step = new StepBuilder("post", repository).<Row, Result>chunk(chunk)
                .transactionManager(context.getBean(JdbcTransactionManager.class)).reader(reader).processor(processor).writer(writer);
        Job job = new JobBuilder("postings", repository).start(step.build()).build();
        JobExecution execution = context.getBean(JobOperator.class)
                .start(job, new JobParametersBuilder().addString("run", UUID.randomUUID().toString()).toJobParameters());
        while (execution.isRunning()) Thread.sleep(1);
        if (execution.getStatus() != BatchStatus.COMPLETED) throw new IllegalStateException(execution.toString());
    }

    public static void main(String[] args) throws Exception {
        int chunk = Integer.parseInt(args[0]);
        boolean updates = args.length > 1 && args[1].equals("update");
        makeTables();
        var context = new AnnotationConfigApplicationContext(Config.class);
        var template = new JdbcTemplate(context.getBean(DataSource.class));
        if (updates) fill(template);
        run(context, chunk, updates, System.getenv("PEER_WARM"));
        template.execute("truncate results");
        if (updates) fill(template);
        System.out.println("ready");
        var told = new BufferedReader(new InputStreamReader(System.in));
        for (String line; (line = told.readLine()) != null;) {
            long began = System.nanoTime();
            if (line.equals("process")) {
                run(context, chunk, updates, System.getenv("PEER_ROWS"));
                System.out.println("processed " + (System.nanoTime() - began) / 1e9);
            } else break;
        }
        System.exit(0);
    }
}
