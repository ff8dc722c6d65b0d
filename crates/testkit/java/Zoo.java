import java.util.ArrayList;
import java.util.List;
import java.util.Properties;
import java.util.Random;
import java.util.concurrent.Future;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.header.internals.RecordHeader;

/**
 * Awkward data, one request a kind; the topics are created by the test. Everything is drawn from fixed seeds, so that a
 * difference can be made again.
 */
final class Zoo {
    /** Some time in 2023; records lie around it, so that times are not those of the run. */
    private static final long EPOCH_MS = 1_690_000_000_000L;
    private final Properties client;
    /** Producers in the middle of a transaction, kept so that nothing ends it. */
    private final List<KafkaProducer<byte[], byte[]>> open = new ArrayList<>();

    Zoo(Properties client) {
        this.client = client;
    }

    /**
     * One request in flight: a broker that has just heard of a topic may refuse a new producer's first batch and then take
     * its second, after which the first is out of order for ever.
     */
    private KafkaProducer<byte[], byte[]> producer(Object... pairs) {
        return Writing.producer(Driver.with(client, "max.in.flight.requests.per.connection", "1"), pairs);
    }

    List<String> perform(List<String> words) throws Exception {
        String topic = words.get(1);
        switch (words.get(0)) {
            case "mixed" -> mixed(topic, Integer.parseInt(words.get(2)), Integer.parseInt(words.get(3)), words.get(4), Boolean.parseBoolean(words.get(5)));
            case "transactions" -> transactions(topic, Integer.parseInt(words.get(2)), Integer.parseInt(words.get(3)));
            case "open-transaction" -> openTransaction(topic, Integer.parseInt(words.get(2)));
            case "sizes" -> sizes(topic);
            case "compacted" -> compacted(topic);
            case "batches" -> batches(topic, Integer.parseInt(words.get(2)), Integer.parseInt(words.get(3)), Integer.parseInt(words.get(4)));
            case "wide" -> wide(topic, Integer.parseInt(words.get(2)));
            default -> throw new IllegalArgumentException("no such request: zoo " + words.get(0));
        }
        return List.of();
    }

    /** Null keys, tombstones, empty values, headers with repeated names and null values, times that go back and forth. */
    private void mixed(String topic, int partitions, int count, String codec, boolean idempotent) throws Exception {
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        Random random = new Random(topic.hashCode());
        try (KafkaProducer<byte[], byte[]> producer = producer("compression.type", codec,
                "batch.size", "32768", "enable.idempotence", "" + idempotent, "acks", idempotent ? "all" : "1")) {
            for (int i = 0; i < count; i++) {
                byte[] key = random.nextInt(4) == 0 ? null : ("key-" + random.nextInt(50)).getBytes();
                byte[] value = random.nextInt(20) == 0 ? null : text(random, random.nextInt(10) == 0 ? 0 : random.nextInt(2000));
                long time = EPOCH_MS + i * 10L + random.nextInt(2000) - 1000;
                ProducerRecord<byte[], byte[]> record = new ProducerRecord<>(topic, random.nextInt(partitions), time, key, value);
                for (int h = random.nextInt(5); h > 0; h--) {
                    byte[] content = random.nextInt(5) == 0 ? null : text(random, random.nextInt(20));
                    record.headers().add(new RecordHeader(random.nextBoolean() ? "again" : "h" + h, content));
                }
                sent.add(producer.send(record));
                if (random.nextInt(200) == 0) {
                    producer.flush();
                }
            }
        }
        Writing.await(sent);
    }

    /** Interleaved transactions over all partitions, three in ten aborted, with plain records between them. */
    private void transactions(String topic, int partitions, int count) {
        Random random = new Random(7);
        List<KafkaProducer<byte[], byte[]>> producers = new ArrayList<>();
        for (int i = 0; i < 3; i++) {
            KafkaProducer<byte[], byte[]> producer = producer("transactional.id", topic + "-" + i, "linger.ms", "0");
            producer.initTransactions();
            producers.add(producer);
        }
        try (KafkaProducer<byte[], byte[]> plain = producer()) {
            for (int round = 0; round < count; round++) {
                producers.forEach(KafkaProducer::beginTransaction);
                for (int i = 0; i < 30; i++) {
                    KafkaProducer<byte[], byte[]> one = producers.get(random.nextInt(producers.size()));
                    one.send(new ProducerRecord<>(topic, random.nextInt(partitions), ("t" + round).getBytes(), text(random, 200)));
                }
                plain.send(new ProducerRecord<>(topic, random.nextInt(partitions), null, text(random, 20)));
                for (KafkaProducer<byte[], byte[]> producer : producers) {
                    producer.flush();
                    if (random.nextInt(10) < 3) {
                        producer.abortTransaction();
                    } else {
                        producer.commitTransaction();
                    }
                }
            }
        }
        producers.forEach(KafkaProducer::close);
    }

    /** One transaction committed, then one that stays open, with plain records behind it. */
    private void openTransaction(String topic, int partitions) {
        KafkaProducer<byte[], byte[]> producer = producer("transactional.id", topic + "-open",
            "transaction.timeout.ms", "900000");
        producer.initTransactions();
        for (boolean last : new boolean[] {false, true}) {
            producer.beginTransaction();
            for (int p = 0; p < partitions; p++) {
                producer.send(new ProducerRecord<>(topic, p, null, ("in a transaction, last: " + last).getBytes()));
            }
            producer.flush();
            if (!last) {
                producer.commitTransaction();
            }
        }
        open.add(producer);
        try (KafkaProducer<byte[], byte[]> plain = producer()) {
            for (int p = 0; p < partitions; p++) {
                plain.send(new ProducerRecord<>(topic, p, null, "behind the open transaction".getBytes()));
            }
        }
    }

    /** 0 B to 10 MB, each twice: as it is and compressed. */
    private void sizes(String topic) throws Exception {
        Random random = new Random(11);
        for (String codec : new String[] {"none", "lz4"}) {
            try (KafkaProducer<byte[], byte[]> producer = producer("compression.type", codec,
                    "max.request.size", "16777216", "buffer.memory", "67108864")) {
                for (int size : new int[] {0, 1, 100, 1_000, 10_000, 100_000, 1_000_000, 5_000_000, 10_000_000}) {
                    byte[] value = new byte[size];
                    random.nextBytes(value);
                    producer.send(new ProducerRecord<>(topic, 0, null, value)).get();
                }
            }
        }
    }

    /**
     * Ten keys written again and again by producers that come and go, one key a round that stays, a tombstone. What
     * compaction leaves has gaps, and batches that it emptied but kept for their producer's sequence.
     */
    private void compacted(String topic) throws Exception {
        for (int round = 0; round < 6; round++) {
            try (KafkaProducer<byte[], byte[]> producer = producer("linger.ms", "50")) {
                for (int k = 0; k < 10; k++) {
                    producer.send(new ProducerRecord<>(topic, 0, ("k" + k).getBytes(), ("v" + round).getBytes()));
                }
                producer.send(new ProducerRecord<>(topic, 0, ("stays" + round).getBytes(), ("v" + round).getBytes()));
                producer.flush();
                // A batch of its own whose only key comes again: what is left of it is empty.
                producer.send(new ProducerRecord<>(topic, 0, "k0".getBytes(), ("alone" + round).getBytes()));
            }
            Thread.sleep(300);
        }
        try (KafkaProducer<byte[], byte[]> producer = producer()) {
            producer.send(new ProducerRecord<>(topic, 0, "stays1".getBytes(), null)).get();
            for (int i = 0; i < 3; i++) {
                Thread.sleep(300);
                producer.send(new ProducerRecord<>(topic, 0, "roll".getBytes(), ("" + i).getBytes())).get();
            }
        }
    }

    /** Batches of a known size in one partition, so that a test can cut inside of one. */
    private void batches(String topic, int partition, int batches, int records) throws Exception {
        try (KafkaProducer<byte[], byte[]> producer = producer("linger.ms", "60000", "batch.size", "1000000",
                "partitioner.ignore.keys", "true")) {
            for (int b = 0; b < batches; b++) {
                for (int i = 0; i < records; i++) {
                    producer.send(new ProducerRecord<>(topic, partition, null, ("batch " + b + " record " + i).getBytes()));
                }
                producer.flush();
            }
        }
    }

    private void wide(String topic, int partitions) throws Exception {
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        try (KafkaProducer<byte[], byte[]> producer = producer("compression.type", "zstd")) {
            for (int i = 0; i < partitions * 5; i++) {
                sent.add(producer.send(new ProducerRecord<>(topic, i % partitions, ("k" + i).getBytes(), ("v" + i).getBytes())));
            }
        }
        Writing.await(sent);
    }

    private static byte[] text(Random random, int length) {
        byte[] bytes = new byte[length];
        for (int i = 0; i < length; i++) {
            bytes[i] = (byte) ('a' + random.nextInt(16));
        }
        return bytes;
    }
}
