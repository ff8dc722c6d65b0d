import java.nio.ByteBuffer;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import java.util.concurrent.TimeoutException;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/** Reads topics from their beginning and sums up what a consumer sees. */
final class Reading {
    private static final long IDLE_MS = 30_000;
    private final Properties client;

    Reading(Properties client) {
        this.client = client;
    }

    /** topic, partition, records, SHA-256 over (partition, offset, timestamp, key, value, headers) of each record */
    List<String> digest(String isolation, List<String> topics) throws Exception {
        Properties settings = Driver.with(client, "isolation.level", isolation, "enable.auto.commit", "false",
            "max.partition.fetch.bytes", "4194304", "auto.offset.reset", "none");
        ByteArrayDeserializer bytes = new ByteArrayDeserializer();
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(settings, bytes, bytes)) {
            List<TopicPartition> partitions = new ArrayList<>();
            for (String topic : topics) {
                consumer.partitionsFor(topic).forEach(p -> partitions.add(new TopicPartition(topic, p.partition())));
            }
            Map<TopicPartition, Sum> sums = new TreeMap<>((a, b) ->
                a.topic().equals(b.topic()) ? a.partition() - b.partition() : a.topic().compareTo(b.topic()));
            for (TopicPartition partition : partitions) {
                sums.put(partition, new Sum());
            }
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
            List<TopicPartition> unread = new ArrayList<>(partitions);
            unread.removeIf(p -> consumer.position(p) >= ends.get(p));
            long deadline = System.currentTimeMillis() + IDLE_MS;
            while (!unread.isEmpty()) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(200))) {
                    TopicPartition partition = new TopicPartition(record.topic(), record.partition());
                    if (record.offset() < ends.get(partition)) {
                        sums.get(partition).add(record);
                    }
                    deadline = System.currentTimeMillis() + IDLE_MS;
                }
                unread.removeIf(p -> consumer.position(p) >= ends.get(p));
                if (System.currentTimeMillis() > deadline) {
                    throw new TimeoutException("nothing more to read of " + unread + " below " + ends);
                }
            }
            List<String> lines = new ArrayList<>();
            sums.forEach((p, s) -> lines.add(p.topic() + "\t" + p.partition() + "\t" + s.records + "\t" + s.hex()));
            return lines;
        }
    }

    private static final class Sum {
        private final MessageDigest sha;
        private long records;

        Sum() throws NoSuchAlgorithmException {
            sha = MessageDigest.getInstance("SHA-256");
        }

        void add(ConsumerRecord<byte[], byte[]> record) {
            records++;
            sha.update(ByteBuffer.allocate(20).putInt(record.partition()).putLong(record.offset()).putLong(record.timestamp()).array());
            field(record.key());
            field(record.value());
            Header[] headers = record.headers().toArray();
            sha.update(ByteBuffer.allocate(4).putInt(headers.length).array());
            for (Header header : headers) {
                field(header.key().getBytes(java.nio.charset.StandardCharsets.UTF_8));
                field(header.value());
            }
        }

        private void field(byte[] bytes) {
            sha.update(ByteBuffer.allocate(4).putInt(bytes == null ? -1 : bytes.length).array());
            if (bytes != null) {
                sha.update(bytes);
            }
        }

        String hex() {
            return HexFormat.of().formatHex(sha.digest());
        }
    }
}
