import java.util.ArrayList;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.Future;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Plain sending of numbered records. */
final class Writing {
    private final Properties client;

    Writing(Properties client) {
        this.client = client;
    }

    static KafkaProducer<byte[], byte[]> producer(Properties client, Object... pairs) {
        ByteArraySerializer bytes = new ByteArraySerializer();
        Properties settings = Driver.with(client, "acks", "all", "linger.ms", "20", "delivery.timeout.ms", "240000");
        return new KafkaProducer<>(Driver.with(settings, pairs), bytes, bytes);
    }

    /** topic, partition (-1 lets the producer choose), count, bytes of a value, codec; answers with the last offset */
    List<String> send(List<String> words) throws Exception {
        String topic = words.get(0);
        int partition = Integer.parseInt(words.get(1));
        int count = Integer.parseInt(words.get(2));
        int size = Integer.parseInt(words.get(3));
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        try (KafkaProducer<byte[], byte[]> producer = producer(client, "compression.type", words.get(4))) {
            for (int i = 0; i < count; i++) {
                byte[] value = String.format("%" + Math.max(1, size) + "d", i).getBytes();
                sent.add(producer.send(new ProducerRecord<>(topic, partition < 0 ? null : partition, null, value)));
            }
        }
        return List.of("" + await(sent));
    }

    /** The last offset of records sent, once all are acknowledged. */
    static long await(List<Future<RecordMetadata>> sent) throws Exception {
        long last = -1;
        for (Future<RecordMetadata> record : sent) {
            last = Math.max(last, record.get().offset());
        }
        return last;
    }
}
