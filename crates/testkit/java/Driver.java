import java.io.BufferedReader;
import java.io.FileInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.List;
import java.util.Properties;

/**
 * Kafka's Java clients, driven line by line from a test, so that a hundred steps cost one start of a JVM.
 *
 * <p>Arguments: bootstrap servers and, optionally, a file of client settings. A request is one line of tab-separated
 * words; the answer is any number of lines that begin with "= ", then "ok" or "error REASON". The program ends when
 * its input does.
 */
public final class Driver {
    private Driver() {}

    public static void main(String[] args) throws IOException {
        PrintStream answers = System.out;
        System.setOut(System.err);
        Properties client = new Properties();
        if (args.length > 1) {
            try (InputStream file = new FileInputStream(args[1])) {
                client.load(file);
            }
        }
        client.put("bootstrap.servers", args[0]);
        // Tests kill servers and want to know at once when they are back.
        client.put("reconnect.backoff.max.ms", "100");
        client.put("retry.backoff.max.ms", "100");
        BufferedReader requests = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        try (Topics topics = new Topics(client)) {
            Reading reading = new Reading(client);
            Writing writing = new Writing(client);
            Zoo zoo = new Zoo(client);
            Load load = new Load(client);
            Numbers numbers = new Numbers(client, reading);
            for (String line = requests.readLine(); line != null; line = requests.readLine()) {
                List<String> words = Arrays.asList(line.split("\t", -1));
                List<String> rest = words.subList(1, words.size());
                try {
                    List<String> answer = switch (words.get(0)) {
                        case "topics" -> topics.perform(rest);
                        case "digest" -> reading.digest(rest.get(0), rest.subList(1, rest.size()));
                        case "consume" -> reading.consume(rest.get(0), rest.get(1), rest.subList(2, rest.size()));
                        case "send" -> writing.send(rest);
                        case "zoo" -> zoo.perform(rest);
                        case "load" -> load.perform(rest);
                        case "numbers" -> numbers.perform(rest);
                        default -> throw new IllegalArgumentException("no such request: " + words.get(0));
                    };
                    answer.forEach(a -> answers.println("= " + a));
                    answers.println("ok");
                } catch (Exception e) {
                    Throwable cause = e.getCause() == null ? e : e.getCause();
                    answers.println("error " + cause.toString().replace('\n', ' '));
                }
                answers.flush();
            }
        }
        // Producers that a test left in the middle of a transaction must not end it.
        Runtime.getRuntime().halt(0);
    }

    /** A copy of {@code client} with further settings, as pairs. */
    static Properties with(Properties client, Object... pairs) {
        Properties all = new Properties();
        all.putAll(client);
        for (int i = 0; i < pairs.length; i += 2) {
            all.put(pairs[i], pairs[i + 1]);
        }
        return all;
    }
}
