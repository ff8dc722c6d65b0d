import java.util.ArrayList;
import java.util.List;
import java.util.Properties;
import java.util.Random;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;

/** Producers that go on in the background while a test breaks things: idempotent and transactional ones. */
final class Load {
    private final Properties client;
    private final List<Thread> threads = new ArrayList<>();
    private final AtomicLong acknowledged = new AtomicLong();
    private final AtomicLong failed = new AtomicLong();
    private final List<KafkaProducer<byte[], byte[]>> held = new ArrayList<>();
    private volatile boolean stopping;

    Load(Properties client) {
        this.client = client;
    }

    /** start TOPIC PARTITIONS RECORDS_PER_SECOND BYTES | start-transactional (the same) | hold-transaction TOPIC COUNT | count | stop */
    List<String> perform(List<String> words) throws Exception {
        switch (words.get(0)) {
            case "start", "start-transactional" -> {
                boolean transactional = words.get(0).equals("start-transactional");
                String topic = words.get(1);
                int partitions = Integer.parseInt(words.get(2));
                int rate = Integer.parseInt(words.get(3));
                int size = Integer.parseInt(words.get(4));
                int number = threads.size();
                Runnable work = () -> run(number, transactional, topic, partitions, rate, size);
                Thread thread = new Thread(work, "load-" + number);
                thread.setDaemon(true);
                threads.add(thread);
                thread.start();
            }
            case "hold-transaction" -> hold(words.get(1), Integer.parseInt(words.get(2)));
            case "count" -> { }
            case "stop" -> {
                stopping = true;
                for (Thread thread : threads) {
                    thread.join(TimeUnit.MINUTES.toMillis(3));
                    if (thread.isAlive()) {
                        throw new IllegalStateException(thread.getName() + " does not end");
                    }
                }
                threads.clear();
                stopping = false;
            }
            default -> throw new IllegalArgumentException("no such request: load " + words.get(0));
        }
        return List.of(acknowledged + "\t" + failed);
    }

    /** Sends records to partition 0 in a transaction that stays open as long as this process lives. */
    private void hold(String topic, int count) {
        String id = "hold-" + ProcessHandle.current().pid() + "-" + held.size();
        KafkaProducer<byte[], byte[]> producer =
            Writing.producer(client, "transactional.id", id, "transaction.timeout.ms", "900000");
        held.add(producer);
        producer.initTransactions();
        producer.beginTransaction();
        for (int i = 0; i < count; i++) {
            producer.send(new ProducerRecord<>(topic, 0, null, ("held " + i).getBytes()));
        }
        producer.flush();
    }

    private void run(int number, boolean transactional, String topic, int partitions, int rate, int size) {
        Random random = new Random(number);
        while (!stopping) {
            try (KafkaProducer<byte[], byte[]> producer = open(number, transactional)) {
                if (transactional) {
                    producer.initTransactions();
                }
                while (!stopping) {
                    round(producer, random, transactional, topic, partitions, Math.max(1, rate / 20), size);
                    Thread.sleep(50);
                }
            } catch (KafkaException e) {
                // Fenced, or too long without a broker: begin again with a new producer.
                failed.incrementAndGet();
            } catch (InterruptedException e) {
                return;
            }
        }
    }

    private KafkaProducer<byte[], byte[]> open(int number, boolean transactional) {
        Object[] more = transactional
            ? new Object[] {"transactional.id", "load-" + ProcessHandle.current().pid() + "-" + number, "linger.ms", "5"}
            : new Object[] {"linger.ms", "5"};
        return Writing.producer(client, more);
    }

    private void round(KafkaProducer<byte[], byte[]> producer, Random random, boolean transactional, String topic,
            int partitions, int count, int size) {
        if (transactional) {
            producer.beginTransaction();
        }
        for (int i = 0; i < count; i++) {
            byte[] value = new byte[size];
            random.nextBytes(value);
            producer.send(new ProducerRecord<>(topic, random.nextInt(partitions), null, value), (metadata, error) ->
                (error == null ? acknowledged : failed).incrementAndGet());
        }
        if (!transactional) {
            return;
        }
        if (random.nextInt(10) < 3) {
            producer.flush();
            producer.abortTransaction();
        } else {
            producer.commitTransaction();
        }
    }
}
