import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;

/**
 * Kafka's DumpLogSegments over many partitions in one JVM, so that every report of it belongs to one partition and an
 * exception ends the look at that one only.
 *
 * <p>Arguments: the tool's class, which moved between releases, and its options before {@code --files}. The input has one
 * line a partition: the value of {@code --files}. The output has a line "Partition N" before what the tool prints of the
 * line N, counted from 0; its reports, which go to standard error, stand where they come.
 */
public final class Dump {
    private Dump() {}

    public static void main(String[] args) throws IOException, ReflectiveOperationException {
        System.setErr(System.out);
        Method tool = Class.forName(args[0]).getMethod("main", String[].class);
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        int number = 0;
        for (String files = input.readLine(); files != null; files = input.readLine()) {
            System.out.println("Partition " + number++);
            String[] words = Arrays.copyOfRange(args, 1, args.length + 1);
            words[args.length - 1] = files;
            try {
                tool.invoke(null, (Object) words);
            } catch (InvocationTargetException e) {
                System.out.println("Exception " + e.getCause());
            }
        }
    }
}
