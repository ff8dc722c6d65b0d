import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;

/**
 * One idempotent producer that goes on while its topic refuses it, and each of whose records has a number of its own: what
 * was acknowledged and what was refused can be held against what is there.
 */
final class Numbers {
    private static final String PREFIX = "number ";
    private final Properties client;
    private final Reading reading;
    private final Set<Long> acknowledged = ConcurrentHashMap.newKeySet();
    private final Set<Long> refused = ConcurrentHashMap.newKeySet();
    private volatile String reason = "";
    private volatile boolean stopping;
    private Thread thread;

    Numbers(Properties client, Reading reading) {
        this.client = client;
        this.reading = reading;
    }

    /** start TOPIC PARTITIONS | count | stop | check TOPIC; answers with records acknowledged, refused, and why the last was */
    List<String> perform(List<String> words) throws Exception {
        switch (words.get(0)) {
            case "start" -> {
                String topic = words.get(1);
                int partitions = Integer.parseInt(words.get(2));
                thread = new Thread(() -> run(topic, partitions), "numbers");
                thread.setDaemon(true);
                thread.start();
            }
            case "count" -> { }
            case "stop" -> {
                stopping = true;
                thread.join();
            }
            case "check" -> check(words.get(1));
            default -> throw new IllegalArgumentException("no such request: numbers " + words.get(0));
        }
        return List.of(acknowledged.size() + "\t" + refused.size() + "\t" + reason);
    }

    private void run(String topic, int partitions) {
        try (KafkaProducer<byte[], byte[]> producer = Writing.producer(client, "linger.ms", "5")) {
            for (long i = 0; !stopping; i++) {
                long number = i;
                byte[] value = (PREFIX + number).getBytes();
                producer.send(new ProducerRecord<>(topic, (int) (number % partitions), null, value), (metadata, error) -> {
                    if (error == null) {
                        acknowledged.add(number);
                    } else {
                        refused.add(number);
                        reason = error.toString();
                    }
                });
                Thread.sleep(5);
            }
        } catch (KafkaException | InterruptedException e) {
            reason = "the producer ended: " + e;
        }
    }

    /** Once the producer has stopped: everything acknowledged is there once, nothing refused is. */
    private void check(String topic) throws Exception {
        for (String isolation : List.of("read_uncommitted", "read_committed")) {
            Map<Long, Integer> found = new HashMap<>();
            reading.read(isolation, List.of(topic), (partition, record) -> {
                String value = new String(record.value());
                if (value.startsWith(PREFIX)) {
                    found.merge(Long.valueOf(value.substring(PREFIX.length())), 1, Integer::sum);
                }
            });
            for (long number : acknowledged) {
                if (found.getOrDefault(number, 0) != 1) {
                    throw new IllegalStateException(isolation + ": " + number + " is there " + found.get(number) + " times");
                }
            }
            if (found.size() != acknowledged.size()) {
                throw new IllegalStateException(isolation + ": " + found.size() + " records of " + acknowledged.size());
            }
        }
    }
}
