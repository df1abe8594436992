// Parses a callback with the generated classes: Parse FILE prints some of its values.
import client.CallEnded;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.nio.file.Path;

public class Parse {
    public static void main(String[] arguments) throws Exception {
        ObjectMapper mapper = new ObjectMapper()
                .configure(DeserializationFeature.FAIL_ON_UNKNOWN_PROPERTIES, false);
        var call = mapper.readValue(Path.of(arguments[0]).toFile(), CallEnded.class).getData();
        System.out.println(call.getId() + " " + call.getTaskId() + " " + call.getCommunicateEndTime());
    }
}
