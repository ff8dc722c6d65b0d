import java.nio.ByteBuffer;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.TimeoutException;
import java.util.function.BiConsumer;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/** What consumers see: a sum over topics from their beginning, or what a group reads where it goes on. */
final class Reading {
    private static final long IDLE_MS = 30_000;
    private final Properties client;

    Reading(Properties client) {
        this.client = client;
    }

    /** topic, partition, records, SHA-256 over (partition, offset, timestamp, key, value, headers) of each record */
    List<String> digest(String isolation, List<String> topics) throws Exception {
        Map<TopicPartition, Sum> sums = new TreeMap<>((a, b) ->
            a.topic().equals(b.topic()) ? a.partition() - b.partition() : a.topic().compareTo(b.topic()));
        for (TopicPartition partition : read(isolation, topics, (p, record) -> sums.computeIfAbsent(p, x -> new Sum()).add(record))) {
            sums.computeIfAbsent(partition, p -> new Sum());
        }
        List<String> lines = new ArrayList<>();
        sums.forEach((p, s) -> lines.add(p.topic() + "\t" + p.partition() + "\t" + s.records + "\t" + s.hex()));
        return lines;
    }

    /** Shows {@code each} every record of {@code topics} from their beginning to their end as of now; gives all partitions. */
    List<TopicPartition> read(String isolation, List<String> topics,
            BiConsumer<TopicPartition, ConsumerRecord<byte[], byte[]>> each) throws Exception {
        Properties settings = Driver.with(client, "isolation.level", isolation, "enable.auto.commit", "false",
            "max.partition.fetch.bytes", "4194304", "auto.offset.reset", "none");
        ByteArrayDeserializer bytes = new ByteArrayDeserializer();
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(settings, bytes, bytes)) {
            List<TopicPartition> partitions = new ArrayList<>();
            for (String topic : topics) {
                consumer.partitionsFor(topic).forEach(p -> partitions.add(new TopicPartition(topic, p.partition())));
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
                        each.accept(partition, record);
                    }
                    deadline = System.currentTimeMillis() + IDLE_MS;
                }
                unread.removeIf(p -> consumer.position(p) >= ends.get(p));
                if (System.currentTimeMillis() > deadline) {
                    throw new TimeoutException("nothing more to read of " + unread + " below " + ends);
                }
            }
            return partitions;
        }
    }

    /**
     * The only member of a group: goes on from what the group committed, reads every partition up to its stop (the first
     * offset not to be read), commits all stops and leaves. Each of {@code topics} is TOPIC=STOP,STOP,... by partition.
     * Answers with runs of consecutive offsets, a partition's in the order read: topic, partition, first, next.
     */
    List<String> consume(String group, String protocol, List<String> topics) throws Exception {
        Map<TopicPartition, OffsetAndMetadata> stops = new HashMap<>();
        for (String topic : topics) {
            String[] words = topic.split("[=,]");
            for (int i = 1; i < words.length; i++) {
                stops.put(new TopicPartition(words[0], i - 1), new OffsetAndMetadata(Long.parseLong(words[i])));
            }
        }
        Properties settings = Driver.with(client, "group.id", group, "group.protocol", protocol,
            "enable.auto.commit", "false", "auto.offset.reset", "earliest");
        ByteArrayDeserializer bytes = new ByteArrayDeserializer();
        Map<TopicPartition, List<long[]>> runs = new HashMap<>();
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(settings, bytes, bytes)) {
            consumer.subscribe(stops.keySet().stream().map(TopicPartition::topic).collect(Collectors.toSet()));
            Set<TopicPartition> unread = new HashSet<>(stops.keySet());
            long deadline = System.currentTimeMillis() + IDLE_MS;
            while (!unread.isEmpty()) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(200))) {
                    TopicPartition partition = new TopicPartition(record.topic(), record.partition());
                    long next = record.offset() + 1;
                    if (next > stops.get(partition).offset()) {
                        continue;
                    }
                    List<long[]> read = runs.computeIfAbsent(partition, p -> new ArrayList<>());
                    if (read.isEmpty() || read.get(read.size() - 1)[1] != record.offset()) {
                        read.add(new long[] {record.offset(), next});
                    }
                    read.get(read.size() - 1)[1] = next;
                    if (next == stops.get(partition).offset()) {
                        stops.put(partition, new OffsetAndMetadata(next, record.leaderEpoch(), ""));
                    }
                    deadline = System.currentTimeMillis() + IDLE_MS;
                }
                Set<TopicPartition> assigned = consumer.assignment();
                unread.removeIf(p -> assigned.contains(p) && consumer.position(p) >= stops.get(p).offset());
                if (System.currentTimeMillis() > deadline) {
                    throw new TimeoutException(group + ": nothing more to read of " + unread + " below " + stops);
                }
            }
            consumer.commitSync(stops);
        }
        List<String> lines = new ArrayList<>();
        runs.forEach((p, read) -> read.forEach(run ->
            lines.add(p.topic() + "\t" + p.partition() + "\t" + run[0] + "\t" + run[1])));
        return lines;
    }

    private static final class Sum {
        private final MessageDigest sha;
        private long records;

        Sum() {
            try {
                sha = MessageDigest.getInstance("SHA-256");
            } catch (NoSuchAlgorithmException e) {
                throw new IllegalStateException(e);
            }
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
