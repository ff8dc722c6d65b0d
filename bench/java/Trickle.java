// Measures how long a record takes from the produce call to a consumer, over a path that is given by two bootstrap
// addresses: TOPIC RECORDS PER_SECOND ACKS PRODUCER_BOOTSTRAP CONSUMER_BOOTSTRAP. Prints one line: count p50 p99 max, in ms.
// One process does both ends, so that one monotonic clock does.

import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.Arrays;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.locks.LockSupport;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

public final class Trickle {
    /** A minute: it takes the JVMs that long to compile what they run. */
    private static final int WARM_UP = 12_000;
    private static final long GIVE_UP_NANOS = 60_000_000_000L;

    public static void main(String[] args) throws Exception {
        String topic = args[0];
        int records = Integer.parseInt(args[1]) + WARM_UP;
        long gapNanos = 1_000_000_000L / Integer.parseInt(args[2]);

        Properties consumerProperties = new Properties();
        consumerProperties.put("bootstrap.servers", args[5]);
        consumerProperties.put("key.deserializer", ByteArrayDeserializer.class.getName());
        consumerProperties.put("value.deserializer", ByteArrayDeserializer.class.getName());
        KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(consumerProperties);
        TopicPartition partition = new TopicPartition(topic, 0);
        consumer.assign(List.of(partition));
        consumer.seekToEnd(List.of(partition));
        consumer.position(partition);

        Properties producerProperties = new Properties();
        producerProperties.put("bootstrap.servers", args[4]);
        producerProperties.put("acks", args[3]);
        producerProperties.put("linger.ms", "0"); // Kafka 4 waits 5 ms for company otherwise, which is no part of the path
        producerProperties.put("key.serializer", ByteArraySerializer.class.getName());
        producerProperties.put("value.serializer", ByteArraySerializer.class.getName());
        KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(producerProperties);
        Thread sending = new Thread(() -> {
            long next = System.nanoTime();
            for (int i = 0; i < records; i++) {
                while (System.nanoTime() < next) {
                    LockSupport.parkNanos(next - System.nanoTime());
                }
                byte[] value = new byte[1024];
                ByteBuffer.wrap(value).putLong(System.nanoTime()).putInt(i);
                producer.send(new ProducerRecord<>(topic, 0, null, value));
                next += gapNanos;
            }
            producer.flush();
        });
        sending.setDaemon(true);
        sending.start();

        double[] millis = new double[records - WARM_UP];
        int seen = 0;
        long deadline = System.nanoTime() + GIVE_UP_NANOS + records * gapNanos;
        while (seen < records) {
            if (System.nanoTime() > deadline) {
                System.err.println("only " + seen + " of " + records + " records arrived");
                System.exit(1);
            }
            for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(500))) {
                ByteBuffer value = ByteBuffer.wrap(record.value());
                long sent = value.getLong();
                int number = value.getInt();
                if (number != seen) {
                    System.err.println("record " + number + " where " + seen + " was expected");
                    System.exit(1);
                }
                if (number >= WARM_UP) {
                    millis[number - WARM_UP] = (System.nanoTime() - sent) / 1e6;
                }
                seen++;
            }
        }
        Arrays.sort(millis);
        System.out.printf("%d %.2f %.2f %.2f%n", millis.length, millis[millis.length / 2],
            millis[(int) (millis.length * 0.99)], millis[millis.length - 1]);
        producer.close();
        consumer.close();
    }
}
