import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeoutException;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ListOffsetsResult;
import org.apache.kafka.clients.admin.NewPartitionReassignment;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.common.ElectionType;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionInfo;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.ElectionNotNeededException;

/** Topics and their partitions: create, change, move, trim, and where they begin and end. */
final class Topics implements AutoCloseable {
    private static final long WAIT_MS = 60_000;
    private final Admin admin;

    Topics(Properties client) {
        admin = Admin.create(Driver.with(client, "default.api.timeout.ms", "60000"));
    }

    List<String> perform(List<String> words) throws Exception {
        String topic = words.size() > 1 ? words.get(1) : "";
        List<String> rest = words.subList(Math.min(2, words.size()), words.size());
        return switch (words.get(0)) {
            case "create" -> create(topic, Integer.parseInt(rest.get(0)), Short.parseShort(rest.get(1)), rest.subList(2, rest.size()));
            case "create-at" -> createAt(topic, rest.get(0), rest.subList(1, rest.size()));
            case "cluster-id" -> List.of(admin.describeCluster().clusterId().get());
            case "delete" -> {
                admin.deleteTopics(Set.of(topic)).all().get();
                yield List.of();
            }
            case "alter" -> alter(topic, rest);
            case "grow" -> {
                admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(Integer.parseInt(rest.get(0))))).all().get();
                yield List.of();
            }
            case "describe" -> describe(words.subList(1, words.size()));
            case "trim" -> {
                TopicPartition partition = new TopicPartition(topic, Integer.parseInt(rest.get(0)));
                admin.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(Long.parseLong(rest.get(1))))).all().get();
                yield List.of();
            }
            case "move" -> move(new TopicPartition(topic, Integer.parseInt(rest.get(0))), nodes(rest.get(1)));
            case "await-in-sync" -> awaitInSync(words.subList(1, words.size()));
            case "offsets" -> offsets(rest, Long.parseLong(topic));
            default -> throw new IllegalArgumentException("no such request: topics " + words.get(0));
        };
    }

    private List<String> create(String topic, int partitions, short replicas, List<String> configs) throws Exception {
        admin.createTopics(List.of(new NewTopic(topic, partitions, replicas).configs(pairs(configs)))).all().get();
        return awaitInSync(List.of(topic));
    }

    private List<String> createAt(String topic, String assignment, List<String> configs) throws Exception {
        Map<Integer, List<Integer>> replicas = new HashMap<>();
        for (String partition : assignment.split(";")) {
            replicas.put(replicas.size(), nodes(partition));
        }
        admin.createTopics(List.of(new NewTopic(topic, replicas).configs(pairs(configs)))).all().get();
        return awaitInSync(List.of(topic));
    }

    private List<String> alter(String topic, List<String> configs) throws Exception {
        Collection<AlterConfigOp> changes = pairs(configs).entrySet().stream()
            .map(c -> new AlterConfigOp(new ConfigEntry(c.getKey(), c.getValue()), AlterConfigOp.OpType.SET))
            .toList();
        admin.incrementalAlterConfigs(Map.of(new ConfigResource(ConfigResource.Type.TOPIC, topic), changes)).all().get();
        return List.of();
    }

    /** topic, topic id, partition, leader (-1 for none), replicas, in-sync replicas */
    private List<String> describe(List<String> topics) throws Exception {
        List<String> lines = new ArrayList<>();
        for (TopicDescription topic : new TreeMap<>(admin.describeTopics(topics).allTopicNames().get()).values()) {
            for (TopicPartitionInfo p : topic.partitions()) {
                int leader = p.leader() == null ? -1 : p.leader().id();
                lines.add(String.join("\t", topic.name(), topic.topicId().toString(), "" + p.partition(), "" + leader,
                    ids(p.replicas()), ids(p.isr())));
            }
        }
        return lines;
    }

    private List<String> awaitInSync(List<String> topics) throws Exception {
        long deadline = System.currentTimeMillis() + WAIT_MS;
        while (true) {
            try {
                boolean ready = admin.describeTopics(topics).allTopicNames().get().values().stream()
                    .flatMap(t -> t.partitions().stream())
                    .allMatch(p -> p.leader() != null && p.isr().size() == p.replicas().size());
                if (ready) {
                    return List.of();
                }
            } catch (ExecutionException e) {
                // A topic that was just created may not have reached every broker.
            }
            if (System.currentTimeMillis() > deadline) {
                throw new TimeoutException("replicas are not in sync: " + describe(topics));
            }
            Thread.sleep(50);
        }
    }

    /** Reassigns the partition and makes the first of its replicas the leader, which raises its leader epoch. */
    private List<String> move(TopicPartition partition, List<Integer> replicas) throws Exception {
        admin.alterPartitionReassignments(Map.of(partition, Optional.of(new NewPartitionReassignment(replicas)))).all().get();
        long deadline = System.currentTimeMillis() + WAIT_MS;
        while (!admin.listPartitionReassignments(Set.of(partition)).reassignments().get().isEmpty()) {
            if (System.currentTimeMillis() > deadline) {
                throw new TimeoutException("reassignment of " + partition);
            }
            Thread.sleep(20);
        }
        while (true) {
            try {
                Optional<Throwable> failed = admin.electLeaders(ElectionType.PREFERRED, Set.of(partition)).partitions().get().get(partition);
                if (failed.isEmpty() || failed.get() instanceof ElectionNotNeededException) {
                    return List.of();
                }
            } catch (ExecutionException e) {
                if (e.getCause() instanceof ElectionNotNeededException) {
                    return List.of();
                }
            }
            if (System.currentTimeMillis() > deadline) {
                throw new TimeoutException("election of " + partition);
            }
            Thread.sleep(50);
        }
    }

    /** topic, partition, then offset@timestamp (or offset) of earliest, latest, max-timestamp and some timestamps */
    private List<String> offsets(List<String> topics, long probes) throws Exception {
        List<TopicPartition> partitions = new ArrayList<>();
        for (TopicDescription topic : new TreeMap<>(admin.describeTopics(topics).allTopicNames().get()).values()) {
            topic.partitions().forEach(p -> partitions.add(new TopicPartition(topic.name(), p.partition())));
        }
        Map<TopicPartition, List<String>> found = new HashMap<>();
        partitions.forEach(p -> found.put(p, new ArrayList<>()));
        ask(partitions, p -> OffsetSpec.earliest(), found);
        ask(partitions, p -> OffsetSpec.latest(), found);
        Map<TopicPartition, ListOffsetsResult.ListOffsetsResultInfo> newest = ask(partitions, p -> OffsetSpec.maxTimestamp(), found);
        // Times around the newest record, ever further back; the same on both sides if the answers so far are.
        for (int i = 0; i < probes; i++) {
            long back = (1L << i) - 1;
            ask(partitions, p -> OffsetSpec.forTimestamp(Math.max(0, newest.get(p).timestamp() - back)), found);
        }
        ask(partitions, p -> OffsetSpec.forTimestamp(newest.get(p).timestamp() + 1), found);
        return partitions.stream().map(p -> p.topic() + "\t" + p.partition() + "\t" + String.join(" ", found.get(p))).toList();
    }

    private Map<TopicPartition, ListOffsetsResult.ListOffsetsResultInfo> ask(List<TopicPartition> partitions,
            java.util.function.Function<TopicPartition, OffsetSpec> spec, Map<TopicPartition, List<String>> found) throws Exception {
        Map<TopicPartition, OffsetSpec> question = partitions.stream().collect(Collectors.toMap(p -> p, spec));
        Map<TopicPartition, ListOffsetsResult.ListOffsetsResultInfo> answer = admin.listOffsets(question).all().get();
        answer.forEach((p, a) -> found.get(p).add(a.timestamp() < 0 ? "" + a.offset() : a.offset() + "@" + a.timestamp()));
        return answer;
    }

    private static Map<String, String> pairs(List<String> configs) {
        return configs.stream().map(c -> c.split("=", 2)).collect(Collectors.toMap(c -> c[0], c -> c[1]));
    }

    private static List<Integer> nodes(String list) {
        return Arrays.stream(list.split(",")).map(Integer::valueOf).toList();
    }

    private static String ids(List<Node> nodes) {
        return nodes.stream().map(Node::idString).collect(Collectors.joining(","));
    }

    @Override
    public void close() {
        admin.close();
    }
}
