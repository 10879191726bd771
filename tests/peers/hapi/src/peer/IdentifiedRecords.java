package peer;

import ca.uhn.fhir.rest.annotation.OptionalParam;
import ca.uhn.fhir.rest.annotation.RequiredParam;
import ca.uhn.fhir.rest.annotation.Search;
import ca.uhn.fhir.rest.param.TokenOrListParam;
import java.util.List;
import java.util.stream.Stream;
import org.hl7.fhir.r4.model.Resource;

/** Records that are also searched by identifier. */
class IdentifiedRecords<T extends Resource> extends Records<T> {

    IdentifiedRecords(Class<T> type, Store store) {
        super(type, store);
    }

    @Search
    public List<T> searchByIdentifier(
            @OptionalParam(name = "_id") TokenOrListParam ids,
            @RequiredParam(name = "identifier") TokenOrListParam identifiers) {
        return matching(ids, identifiers).toList();
    }

    protected final Stream<T> matching(TokenOrListParam ids, TokenOrListParam identifiers) {
        return matching(ids).filter(resource -> identifiers == null || identifiers.getValuesAsQueryTokens().stream()
                .anyMatch(token -> Store.bears(resource, token)));
    }
}
